from __future__ import annotations

import time

import pytest

from semroute.text.asks import ASK, LONG, MAX_PARTS, question_parts

ONE_LINE = (
    "This lease is made between the landlord and the tenant. The rent is due on the first day of each month. "
    "Either party may end it by giving three months' notice in writing. The deposit is returned within thirty days "
    "after the keys have been handed over, less the cost of any damage. Pets are allowed with written consent only, "
    "and the tenant keeps the stairs clean. Disputes are settled by the courts of the county where the house stands."
)
WRAPPED = """The honey bee lives in colonies of up to sixty thousand animals. Worker bees gather nectar and pollen and
guard the entrance of the hive. In winter the colony forms a cluster around the queen and lives on stored honey; the
bees inside keep warm by moving the muscles of their wings. A queen lays up to two thousand eggs a day in spring, and
scouts tell the others of a good place by a dance, whose angle gives the direction of the flowers to all who follow."""
CHAPTERS = f"Report\n\n{ONE_LINE}\n\nThe board met in June. It took note of the figures. It adjourned at noon."
CODE = "def area(w, h):\n    total = 0\n    for i in range(w):\n        total += h\n    return total"
QUESTIONS = ["Translate the text into French.", "Can my landlord evict me for this?", "write a limerick about it"]


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("between", ["\n", "\n\n", "\n\n---\n\n"])
@pytest.mark.parametrize("document", [ONE_LINE, WRAPPED, CHAPTERS], ids=["line", "wrapped", "chapters"])
def test_the_question_before_or_after_a_document_is_the_likeliest_part(
    document: str, between: str, question: str
) -> None:
    assert question_parts(question + between + document)[0].text == question
    assert question_parts(document + between + question)[0].text == question


@pytest.mark.parametrize("question", QUESTIONS[:2])
def test_the_question_in_one_paragraph_with_a_document_is_cut_out(question: str) -> None:
    assert question in [ask.text for ask in question_parts(f"{question} {ONE_LINE}")]
    assert question in [ask.text for ask in question_parts(f"{ONE_LINE} {question}")]


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize(
    "pasted",
    [
        f"```python\n{CODE}\n```",
        f"~~~\n{CODE}\n~~~",
        CODE,
        "\n".join(f"> {line}" for line in CODE.splitlines()),
        f"<document>\n{ONE_LINE}\n</document>",
        f'"""{ONE_LINE}"""',
        f"\u201c{ONE_LINE}\u201d",
    ],
    ids=["fence", "tildes", "bare", "quoted", "tagged", "triple", "marks"],
)
def test_the_question_beside_code_or_a_quotation_is_the_likeliest_part(pasted: str, question: str) -> None:
    assert question_parts(f"{question}\n\n{pasted}")[0].text == question
    assert question_parts(f"{pasted}\n\n{question}\n")[0].text == question


def test_greetings_and_thanks_are_not_the_question() -> None:
    text = f"Hi all,\n\n{ONE_LINE}\n\nIs this binding?\n\nThanks,\nAnna"
    found = [ask.text for ask in question_parts(text)]
    assert found[0] == "Is this binding?"
    assert not any("Hi all" in part or "Thanks" in part for part in found)


def test_an_open_fence_reaches_to_the_end() -> None:
    assert [ask.text for ask in question_parts(f"why is this slow?\n```\n{CODE}")] == ["why is this slow?"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "where is my parcel",
        "where is my parcel?\nit was due on monday",
        "cancel my order and tell me when I get my money back for the shoes, which are too small",
        CODE,
        f"```\n{CODE}\n```",
        "\n\n\n" * 200,
        "?!" * 300,
    ],
)
def test_plain_short_and_purely_pasted_texts_have_no_parts_that_ask(text: str) -> None:
    assert not [ask for ask in question_parts(text) if ask.cues > 1]


def test_parts_are_few_and_short() -> None:
    for text in (CHAPTERS, f"{ONE_LINE}\n\n{WRAPPED}", f"what? {ONE_LINE} why?", "Is it so? " * LONG):
        found = question_parts(text)
        assert len(found) <= MAX_PARTS
        assert all(0 < len(ask.text) <= ASK + 8 for ask in found)


@pytest.mark.parametrize(
    "unit",
    [
        "`",
        '"',
        "'''a",
        '"""',
        "<a>",
        "> ",
        ">\n",
        "```\n",
        "a.\n",
        "please ",
        "thanks ",
        "\u00ab",
        "\u201c",
        "?",
        "-\n",
    ],
)
def test_hostile_texts_take_linear_time(unit: str) -> None:
    def seconds(length: int) -> float:
        start = time.process_time()
        question_parts("x\n" + unit * (length // len(unit)))
        return time.process_time() - start

    seconds(100)
    assert seconds(400_000) < 60 * max(seconds(4_000), 0.002)  # a quadratic pattern would take 10,000 times as long
