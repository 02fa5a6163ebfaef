from __future__ import annotations

from semroute.predictors.query_features import DOMAINS, WORDS, domain_counts


def counted(text: str) -> dict[str, int]:
    return {domain: count for domain, count in zip(DOMAINS, domain_counts(text), strict=True) if count}


def test_words_count_for_their_domains_in_singular_and_plural_and_any_case() -> None:
    assert counted("The PATIENT has two diseases") == {"medicine": 2}
    assert counted("the court found the plaintiffs liable") == {"law": 2}


def test_a_word_of_two_domains_counts_for_both() -> None:
    assert counted("theory") == {"mind": 1}
    assert counted("function") == {"mathematics": 1, "programming": 1}


def test_parts_of_words_do_not_count() -> None:
    assert counted("patiently lawless") == {}
    assert counted("") == {}


def test_no_domain_names_a_word_twice() -> None:
    for domain, words in WORDS.items():
        assert len(words.split()) == len(set(words.split())), domain
