"""Detection of refusals and non-answers by their opening.

A model that will not or cannot answer states this at once, in the first person, and adds little. So only the opening is
matched, quotations and code are ignored (a character in a story may refuse), and a long answer always counts as an
answer: "I cannot give medical advice, but …" goes on with what was asked for.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache

# Patterns of refusals and non-answers in eleven languages; lower case, straight apostrophes.
#
# Written from the usual phrases of assistants, then corrected on the rows "dev" of ``tests/samples/refusals.jsonl``. The
# rows "test" are for measurement only. The code that uses a pattern anchors it at the start of a sentence or clause.

_EN_DO = (
    r"(?:help(?! but\b)|assist|provide|comply|fulfil|do (?:that|this|so)\b|answer|discuss|engage|continue|participate|support|"
    r"generate|create|write (?:that|this|about|such|content)|share|give (?:you )?(?:that|this|advice|instructions|details|medical|"
    r"legal|financial|personal)|offer|complete (?:that|this|the request)|respond to|produce|process (?:that|this|your)|"
    r"carry out|go along|take part|recommend (?:that|any|specific)|access|browse|open (?:that|this|links|files|attachments)|"
    r"view|see (?:the|any|your|an) (?:image|file|attachment|picture|document)|retrieve|look up|search|perform)"
)
_EN_CANNOT = (
    r"(?:can't|cannot|can not|won't|will not|am unable to|'m unable to|am not able to|'m not able to|must decline to|"
    r"have to decline to|won't be able to|will not be able to|am not allowed to|'m not allowed to|am not permitted to|"
    r"'m not permitted to|am not going to|'m not going to|am not comfortable|'m not comfortable|do not have the ability to|"
    r"don't have the ability to|couldn't|could not|don't feel comfortable|am programmed not to|would rather not|'d rather not)"
)

REFUSALS: tuple[str, ...] = (
    # English
    rf"(?:but |and |so |however,? |therefore,? |unfortunately,? |sadly,? |sorry,? )*i ?{_EN_CANNOT} (?:\w+ly )?(?:to )?(?:be able to )?{_EN_DO}",
    r"i(?: am|'m) (?:really |very |so |truly )?sorry,? (?:but )?(?:i|that|this|we) (?:can't|cannot|can not|won't|am unable|'m unable|"
    r"isn't something|is not something|request)",
    r"(?:i )?(?:apologi[sz]e|my apologies)[,.]? (?:but )?i ?(?:can't|cannot|won't|am unable|'m unable|am not able|'m not able)",
    r"(?:i )?(?:must|have to|need to|will have to|'ll have to) (?:respectfully |politely )?(?:decline|refuse)",
    r"(?:that|this|it)(?:'s| is) (?:not something|against) (?:i can|i'm able|i am able|my|the|our) ?"
    r"(?:help|assist|do|provide|guidelines|policy|policies|programming|principles|rules|usage|content)?",
    r"(?:that|this|your) (?:request )?(?:violates|goes against|conflicts with|is against) (?:my|our|the|openai)",
    r"as an? (?:ai|artificial intelligence|large language model|language model|virtual assistant)[^.;]{0,80},? i "
    r"(?:can't|cannot|can not|don't have|do not have|am unable|am not able|'m not able|'m unable|won't|must|am not)",
    r"i(?:'m| am) (?:just |only )?an? (?:ai|language model|large language model)[^.;]{0,60}(?:can't|cannot|unable|not able|don't have)",
    r"(?:no,? )?i (?:refuse|decline) to ",
    r"i (?:won't|will not) (?:write|create|generate|produce|build|make|tell|share|give|send|help) ",
    r"i (?:don't|do not) have the ability to ",
    r"i(?:'m| am) (?:afraid|sorry to say) (?:that )?(?:i )?(?:can't|cannot|won't|am unable|am not able|'m not able|not)",
    r"(?:we|this (?:service|assistant)) (?:can't|cannot|are unable to|is unable to|does not|do not) (?:help|assist|provide|answer|support)",
    r"i don't have (?:access to|permission to|the (?:necessary )?(?:information|capability|tools|authority))",
    r"i do not have (?:access to|permission to|the (?:necessary )?(?:information|capability|tools|authority))",
    # German
    r"(?:es tut mir (?:leid|sehr leid)|tut mir leid|leider|entschuldigung|verzeihung|bedauerlicherweise)[,.]? (?:aber |dass )?"
    r"(?:kann|darf|werde|möchte|bin|ist es mir|das kann|dabei kann|ich kann|ich darf|ich bin|ich werde|diese anfrage)",
    r"(?:das|dabei|dazu|hierzu|damit|hierbei|ihnen dabei) (?:kann|darf|werde|möchte) ich (?:\w+ )?(?:leider |dir |ihnen )*"
    r"(?:nicht|keine|leider nicht)",
    r"ich (?:kann|darf|werde|möchte) (?:\w+ ){0,4}(?:nicht|keine|keinen) (?:\w+ ){0,3}"
    r"(?:helfen|unterstützen|beantworten|geben|erstellen|bereitstellen|weiterhelfen|ausführen|erfüllen|schreiben|besprechen|machen)",
    r"ich bin nicht in der lage",
    r"als (?:ki|ki-modell|ki-assistent|künstliche intelligenz|sprachmodell)[^.;]{0,60} (?:kann|darf|habe|bin) ich",
    r"(?:diese|deine|ihre) anfrage (?:verstößt|widerspricht|kann ich nicht|lehne)",
    r"ich (?:muss|möchte) (?:\w+ ){0,3}ablehnen",
    r"ich lehne (?:\w+ ){0,3}ab\b",
    # French
    r"(?:je suis (?:vraiment |sincèrement )?désolée?|désolée?|malheureusement|je m'excuse|toutes mes excuses)[,.]? (?:mais )?"
    r"(?:je ne|je n'|il m'est|cela|il ne m'est)",
    r"je ne (?:peux|suis|puis|pourrai|vais|souhaite) (?:malheureusement |vraiment )?pas (?:\w+ ){0,2}(?:aider|assister|répondre|fournir|"
    r"donner|satisfaire|accéder|traiter|autorisée?|en mesure|vous|t'aider|créer|rédiger|écrire|faire|discuter)",
    r"en tant qu'(?:ia|intelligence artificielle|assistant|modèle)[^.;]{0,60} je ne",
    r"je dois (?:\w+ )?(?:refuser|décliner)",
    r"je refuse de ",
    r"il m'est (?:impossible|interdit) d",
    # Spanish
    r"(?:lo siento|lo lamento|disculpa|disculpe|lamentablemente|desafortunadamente|perdona|perdón)[,.]? (?:mucho,? )?(?:pero )?"
    r"(?:no puedo|no me es|no es posible|no estoy|no podré|no tengo)",
    r"no puedo (?:ayudar|asistir|proporcionar|responder|cumplir|dar|ofrecer|hacer eso|hacerlo|crear|generar|escribir (?:eso|sobre)|"
    r"facilitar|acceder|participar|compartir|brindar)",
    r"no (?:estoy autorizad[oa]|me está permitido|soy capaz de|estoy en condiciones)",
    r"como (?:ia|una ia|inteligencia artificial|modelo de lenguaje|un modelo de lenguaje|asistente)[^.;]{0,60} no (?:puedo|tengo|me)",
    r"(?:debo|tengo que|me veo obligad[oa] a) (?:rechazar|declinar|negarme)",
    r"me niego a ",
    # Italian
    r"(?:mi dispiace|purtroppo|spiacente|mi scuso|scusa|scusami|sono spiacente)[,.]? (?:ma )?(?:non posso|non sono|non mi è|non ho|non è possibile)",
    r"non posso (?:aiutar|assister|fornir|risponder|soddisfar|dar|offrir|farlo|crear|generar|scriver|acceder|partecipar|condivider)",
    r"non (?:sono in grado di|sono autorizzat[oa]|mi è (?:possibile|permesso|consentito))",
    r"(?:come|in quanto) (?:ia|intelligenza artificiale|modello linguistico|un modello linguistico|assistente)[^.;]{0,60} non (?:posso|ho|sono)",
    r"devo (?:\w+ )?(?:rifiutare|declinare)",
    r"mi rifiuto di ",
    # Portuguese
    r"(?:sinto muito|desculpe|desculpa|lamento|infelizmente|peço desculpas?)[,.]? (?:mas )?(?:eu )?(?:não posso|não consigo|não estou|não me é|não tenho|não é possível)",
    r"(?:eu )?não posso (?:ajudar|auxiliar|fornecer|responder|atender|dar|oferecer|fazer isso|criar|gerar|escrever (?:isso|sobre)|acessar|participar|compartilhar)",
    r"(?:eu )?não (?:sou capaz de|estou autorizad[oa]|tenho permissão|me é permitido|consigo (?:ajudar|atender|acessar|responder))",
    r"(?:como|sendo) (?:uma? )?(?:ia|inteligência artificial|modelo de linguagem|assistente)[^.;]{0,60} não (?:posso|tenho|consigo)",
    r"(?:devo|preciso|tenho de|tenho que) (?:\w+ )?(?:recusar|declinar)",
    r"recuso-me a ",
    # Dutch
    r"(?:het spijt me|sorry|helaas)[,.]? (?:maar )?(?:ik kan|kan ik|ik mag|mag ik|daar kan|dat kan|ik ben niet)",
    r"(?:daar|dat|hier)(?:bij|mee|aan)? kan ik (?:\w+ ){0,3}(?:niet|geen)",
    r"ik kan (?:\w+ ){0,3}(?:niet|geen) (?:\w+ ){0,3}(?:helpen|geven|beantwoorden|verstrekken|maken|schrijven|voldoen)",
    r"als (?:ai|taalmodel|ai-assistent)[^.;]{0,60} kan ik",
    # Polish
    r"(?:przykro mi|przepraszam|niestety)[,.]? (?:ale )?(?:nie mogę|nie jestem|nie mam|nie będę)",
    r"nie (?:mogę|jestem w stanie) (?:\w+ )?(?:pomóc|udzielić|odpowiedzieć|spełnić|podać|dostarczyć|stworzyć|napisać|tego zrobić)",
    r"jako (?:ai|sztuczna inteligencja|model językowy|asystent)[^.;]{0,60} nie (?:mogę|mam|jestem)",
    # Russian
    r"(?:извините|простите|к сожалению|сожалею|мне жаль|прошу прощения)[,.]? (?:но )?(?:я )?(?:не могу|не смогу|не имею|не в состоянии|не буду)",
    r"(?:я )?не (?:могу|смогу|в состоянии|вправе) (?:\w+ )?(?:помочь|предоставить|ответить|выполнить|дать|помогать|сделать это|обсуждать|создать|написать|поделиться)",
    r"как (?:ии|искусственный интеллект|языковая модель|ассистент)[^.;]{0,60} не (?:могу|имею)",
    r"я (?:вынужден[а]? )?(?:отказываюсь|отказаться|отклонить)",
    # Chinese
    r"(?:很|非常|十分)?(?:抱歉|对不起|對不起|遗憾|遺憾)[^。！？]{0,12}(?:无法|無法|不能|不可以|没有办法|沒有辦法)",
    r"(?:作为|作為|身为)(?:一个|一個|一名)?(?:ai|人工智能|人工智慧|语言模型|語言模型|助手)[^。！？]{0,20}(?:无法|無法|不能|没有|沒有)",
    r"我(?:无法|無法|不能|没法|不会|不便)(?:为您|为你|協助|协助|帮助|幫助|提供|回答|满足|滿足|完成|讨论|討論|参与|给出|執行|执行|帮)",
    r"(?:我)?(?:必须|必須|只能|不得不)(?:拒绝|拒絕)",
    # Japanese
    r"(?:申し訳(?:ありません|ございません)|申し訳ない|すみません|恐れ入りますが|残念ながら|ごめんなさい)[^。]{0,40}"
    r"(?:できません|いたしかねます|致しかねます|できかねます|お答えできません|お手伝いできません|お断り|ません)",
    r"(?:その|この|ご)[^。]{0,25}(?:お応えできません|お答えできません|お手伝いできません|提供できません|対応できません|いたしかねます)",
    r"(?:ai|言語モデル|人工知能)として[^。]{0,30}(?:できません|ありません)",
)
"""Patterns of refusals."""

NON_ANSWERS: tuple[str, ...] = (
    r"(?:sorry,? |hmm,? |honestly,? |well,? )?i (?:really |honestly |just )?(?:do not|don't) (?:really )?know(?: the answer| that| enough|\.|$|,)",
    r"(?:sorry,? )?i(?:'m| am) not (?:(?:sure|certain)(?: what| how| which| about| the|\.|$| i)|familiar with (?:that|this|the|it))",
    r"i have no (?:idea|information)",
    r"(?:sorry,? )?(?:could|can|would) you (?:please )?(?:clarify|provide|give|share|tell|specify|elaborate|rephrase|explain)",
    r"please (?:clarify|specify|rephrase)\b",
    r"please (?:provide|share|give|tell|paste|upload|send)\b[^.;]{0,60}\b(?:details|information|context|text|code|file|image|document|"
    r"question|sentence|example|problem|link|data|article|passage|paragraph|what you|which|more)\b",
    r"(?:what|which) (?:\w+ ){0,3}(?:do|would|did) you (?:mean|like|want|need)",
    r"(?:it|that) depends\.?$",
    r"(?:sure|certainly|of course|absolutely)[,!.]* ?(?:i(?:'d| would) be happy to help|what (?:can|would)|how can i|i can help)[^.]{0,60}[.!?]? ?"
    r"(?:please|could|what|how|$)",
    r"(?:lorem ipsum|todo\b|tbd\b|n/a\b|\[insert|\[your|\[placeholder|<insert|<your|placeholder\b|\[answer)",
    r"(?:there is )?(?:not enough|insufficient) (?:information|context|data)",
    r"how (?:can|may) i (?:help|assist) you",
    r"i(?:'d| would) need (?:more|some more|additional|further) (?:information|details|context)",
    r"(?:das )?(?:weiß|weiss) ich (?:leider )?nicht",
    r"ich (?:weiß|weiss) (?:es |das )?(?:leider )?nicht",
    r"(?:könntest du|können sie|könnten sie|kannst du) (?:\w+ ){0,3}(?:genauer|präzisieren|erläutern|mehr|angeben|mitteilen|erklären)",
    r"(?:je ne sais pas|je l'ignore|je n'en sais rien)",
    r"(?:pourriez-vous|pouvez-vous|peux-tu|pourrais-tu) (?:\w+ )?(?:préciser|clarifier|me donner|fournir|reformuler|m'en dire)",
    r"no (?:lo )?sé(?:\.|,|$| la| qué)",
    r"(?:¿)?(?:podrías|podría|puedes|puede) (?:\w+ )?(?:aclarar|darme|proporcionar|especificar|reformular|indicar|explicar)",
    r"non (?:lo )?so(?:\.|,|$| la)",
    r"(?:potresti|puoi|può|potrebbe) (?:\w+ )?(?:chiarire|fornire|fornirmi|specificare|darmi|precisare|riformulare)",
    r"(?:eu )?não sei(?:\.|,|$| a| o)",
    r"(?:você )?(?:poderia|pode|podes) (?:\w+ )?(?:esclarecer|fornecer|especificar|reformular|dar|explicar)",
    r"(?:dat )?weet ik (?:helaas )?niet",
    r"(?:niestety )?nie wiem",
    r"(?:к сожалению,? )?(?:я )?не знаю",
    r"(?:не могли бы вы|можете|уточните|пожалуйста,? (?:уточните|предоставьте))",
    r"我(?:也)?不(?:太)?(?:知道|清楚|确定|確定)",
    r"(?:请|請)(?:您|你)?(?:提供|说明|說明|告诉|告訴|澄清|补充|補充|具体)",
    r"(?:分かりません|わかりません|存じません|わからないです)",
    r"[^。]{0,20}(?:教えてください|教えていただけますか|詳しくお聞かせ)",
)
"""Patterns of non-answers: "I do not know", a question back, a placeholder. Applied to short texts only."""


OPENING = 320
"""Characters within which a refusal must begin."""

MOST_WORDS = 90
"""Most words of a refusal; in scripts without spaces three characters count as a word."""

MOST_WORDS_OF_NOTHING = 45
"""Most words of a non-answer, such as a question back."""

_QUOTED = re.compile('["“„«][^"”“»]{0,2000}["”“»]|「[^」]{0,2000}」|```.*?(?:```|\\Z)|`[^`]{0,500}`', re.DOTALL)
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
_SPACE = re.compile(r"\s+")
_DECORATION = re.compile(r"^[^\w\[<]+")


def refusal_in(text: str) -> str | None:
    """Return ``a refusal``, ``a non-answer``, or None for an answer.

    Takes time linear in the text, microseconds for a short one. ``tests/cascade/test_refusals.py`` measures the
    accuracy.
    """
    # The rest cannot matter: a text of that length is an answer.
    if len(text) > 20 * MOST_WORDS:
        return None
    plain = _plain(text)
    count = _words(plain)
    if count > MOST_WORDS:
        return None
    opening = plain[:OPENING]
    if _any(REFUSALS).search(opening):
        return "a refusal"
    if count <= MOST_WORDS_OF_NOTHING and _any(NON_ANSWERS).search(opening):
        return "a non-answer"
    return None


def _plain(text: str) -> str:
    """Return a text without quotations, code and markup, in lower case.

    Apostrophes and spaces are unified.
    """
    said = _QUOTED.sub(" ", unicodedata.normalize("NFKC", text)).replace("’", "'").replace("‘", "'")
    return _DECORATION.sub("", _SPACE.sub(" ", said).lower())


def _words(plain: str) -> int:
    characters = len(_UNSPACED.findall(plain))
    return len(_UNSPACED.sub("", plain).split()) + characters // 3


@cache
def _any(patterns: tuple[str, ...]) -> re.Pattern[str]:
    # Each pattern starts at the start of a sentence. Alternatives of plain words match in linear time.
    return re.compile(rf"(?:^|[.!?:;。！？,，、] ?|[-–—*] )(?:{'|'.join(patterns)})")
