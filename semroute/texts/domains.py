"""Which domains a text speaks of, by their words."""

from __future__ import annotations

import re

WORDS = {
    "mathematics": """integer equation polynomial matrix vector triangle probability theorem derivative integral
        function prime algebra geometry arithmetic divisible ratio median graph variable group ring field finite""",
    "physics": """velocity acceleration force energy mass electric magnetic charge voltage circuit wave frequency
        momentum gravity quantum photon pressure temperature orbit planet star galaxy""",
    "chemistry": """molecule atom reaction acid base ion bond electron oxidation compound solution equilibrium enzyme
        catalyst alkene isotope molar""",
    "biology": """cell gene protein dna rna species evolution organism bacteria virus membrane chromosome photosynthesis
        ecosystem mutation allele hormone""",
    "medicine": """patient disease symptom diagnosis treatment clinical blood pain infection therapy drug dose surgery
        cancer year-old syndrome nerve artery muscle""",
    "law": """law legal court plaintiff defendant statute contract liability constitution jury crime criminal tort
        property evidence attorney""",
    "economics": """price demand supply market cost revenue profit inflation tax income interest bond stock budget
        monopoly gdp accounting asset audit""",
    "programming": """code python java javascript function class array string list loop algorithm database sql api
        compile bug test server software regex""",
    "history": """war empire king century revolution treaty president government political nation colonial soviet
        roman dynasty democracy policy state congress""",
    "mind": """behavior psychology therapist cognitive memory emotion personality learning theory child moral ethics
        philosophy argument belief culture society religion""",
}  # fmt: skip
"""Words of each domain, in the singular."""

DOMAINS = tuple(WORDS)

_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)?")


def _of_words() -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for number, words in enumerate(WORDS.values()):
        for word in words.split():
            for form in (word, f"{word}s"):
                found.setdefault(form, []).append(number)
    return found


_NUMBERS = _of_words()


def domain_counts(text: str) -> list[int]:
    """How often words of each of :data:`DOMAINS` stand in ``text``, which is read in lower case."""
    counts = [0] * len(DOMAINS)
    for word in _WORD.findall(text.lower()):
        for number in _NUMBERS.get(word, ()):
            counts[number] += 1
    return counts
