"""One exchange over HTTP: requests, answers, streams of events, and what failures are called in our tree."""
