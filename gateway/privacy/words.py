# ruff: noqa: RUF001 - letters of many scripts are meant
"""Words that say what a number beside them is, in the languages of many writers. Pure.

A check digit lets one number in ten pass, so a bare run of digits says little; the word before it says the rest. The nearest word before a
number decides, and where there is none the nearest after it. One expression of all words, so that a look costs one pass of a short window.
"""

import re
from functools import cached_property
from typing import Final, Literal, get_args

Topic = Literal["identity", "card", "phone", "other"]

BEFORE: Final = 64
AFTER: Final = 28
"""Characters that are looked at."""

_WORDS: Final[dict[Topic, str]] = {
    # Numbers of persons. What each scheme calls its own is in national_ids.
    "identity": r"""
        identi(?:ty|ties|t[àé]|dad|dade|t[äa]t\w*|fication|ficaci[óo]n|fica[çc][ãa]o|tetskort|teits\w*)\W?(?:card|number|no\b|code|doc\w*)?
        |id.(?:card|no|number|nr|doc\w*|code)|national.?id\w*|nat\.?.id\b|citizen\w*|(?:personal|person).?(?:id\w*|number|no\b|code|nummer)|taxpayer\w*
        |tax.?(?:id\w*|payer|file|ref\w*|number|no\b)|social.(?:security|insurance)|soc\.?.sec|ssn\b|itin\b|nino\b|national.insurance|ni.(?:number|no\b)|nhs|utr\b
        |steuer\W?(?:id\w*|nummer|nr|-id)|idnr|sozialversicherung\w*|sv-?n\w+|ausweis\w*|personalausweis\w*|ahv|avs\b
        |nir\b|insee|s[ée]curit[ée].sociale|s[ée]cu\b|num[ée]ro.(?:fiscal|national|de.s[ée]c\w*)|carte.(?:vitale|d.identit\w*|nationale)|niss|insz|registre.national
        |dni\b|nie\b|nif\b|documento.(?:nacional|de.identi\w*)|c[ée]dula|curp|rfc\b|cuit|cuil|rut\b|run\b|contribuinte|cart[ãa]o.de.cidad[ãa]o|cpf|cadastro
        |codice.fiscale|c\.?f\.?:|cod\.?.?fisc\w*|carta.d.identit\w*|bsn|burgerservice\w*|sofi\w*|rijksregister\w*|pesel|personn\w+|pers\.?nr|pnr\b|cpr\b|f[øo]dsels\w*
        |h(?:enkil[öo])?tu\w*|henkil[öo]tunnus|kennitala|rodn\w+.[čc][íi]s\w*|r[čc]\b|r\.\s?[čc]\.|birth.number|cnp\b|cod.numeric\w*|egn\b|егн|oib\b|em[šs]o|jmbg|taj\b
        |isikukood|asmens.kod\w*|personas.kod\w*|αμκα|amka|t\.?c\.?\W?(?:kimlik|no)|tckn|kimlik|aadha+r|आधार|uidai|uid\b|pan.(?:card|no|number)|पैन
        |身份证\w*|身分證\w*|身份證\w*|公民身份\w*|证件号\w*|주민(?:등록)?번호|주민|외국인등록\w*|マイナンバー|個人番号|my.?number|individual.number
        |sin\b|nas\b|assurance.sociale|tfn\b|medicare|ird\b|pps\w*|nric|fin\b|mykad|kad.pengenalan|ic.(?:no|number)|hkid|cnic|nik\b|ktp\b
        |снилс|инн\b|рнокпп|іпн|паспорт\w*|passport\w*|pasaporte|passeport|reisepass|ת\.?ז|תעודת.זהות|מספר.זהות|الرقم.القومي|رقم.الهوية|الهوية|เลขประจำตัว\w*|บัตรประชาชน|kenteken""",
    "card": r"""
        (?:credit|debit|bank|payment|gift)?.?card(?!i)(?:holder|number|no)?s?\b|visa\b|master.?card|amex|american.express|maestro|discover\b|diners|jcb\b|union.?pay|银联|cc\b|cvv|cvc
        |carte|kredit\w*|karte(?:n\w+)?|kartu|tarjeta\w*|carta\b|cart[ãa]o|(?:credit|bet[ae]al|creditcard|bank)?kaart\w*|kort\b|kortn\w+|kart[aęyıeou]\w*|luottokort\w*|карт\w*
        |(?:信用)?卡号?|信用卡|カード|クレジット|카드|क्रेडिट|بطاقة|כרטיס|บัตรเครดิต|บัตรเดบิต|thẻ|paid|pay(?:ment)?\b|charge[ds]?""",
    "phone": r"""
        (?:tele)?phone\w*|tel\b|t[ée]l[ée]f?\w*|fono?\b|handy\w*|mobil\w*|m[óo]vil|cell\w*|celular\w*|call\w*|dial|ring\b|reach|text.me|sms|whats.?app|viber|telegram|fax
        |appel\w*|joign\w*|rappel\w*|portable|ll[áa]m\w*|chiam\w*|ligue|ligar|anruf\w*|rufen|ruf\b|r[üu]ckruf\w*|erreich\w*|durchwahl|hotline|contact\w*|contatt\w*|kontakt\w*
        |zadzwo\w*|dzwo\w*|kom[óo]r\w*|puh(?:elin\w*)?\b|soita\w*|gsm|bel\b|bellen|ring.meg|телефон\w*|тел\b|звон\w*|моб\w*|номер.телефона|電話\w*|电话\w*|手机\w*|手機\w*|携帯\w*|联系\w*
        |전화\w*|휴대\w*|연락\w*|फ़?ोन|फोन|मोबाइल|هاتف|جوال|اتصل|موبايل|טלפון|נייד|טל\b|โทร\w*|τηλ\w*|κιν\w*|đi[ệe]n.tho[ạa]i|sđt|gọi|telp\w*|hp\b|cep\b|ara[yı]\w*|n[úu]mero.de.contacto""",
    "other": r"""
        (?:bulk|work|purchase)?.?orders?\b|order\w*|invoice\w*|track\w*|tracking|ticket\w*|ref\b|refs?\.|referen\w+|r[ée]f[ée]ren\w*|case\b|shipment\w*|parcel\w*|package\w*|serial\w*|s/n|sku\b|part\b|model\b|batch|lot\b
        |version\w*|ver\b|v\b|build\w*|release\w*|commit\w*|isbn\w*|issn|ean\b|upc\b|gtin\w*|barcode\w*|imei|imsi|iccid|mac\b|uuid\w*|guid|hash\w*|sha\d*|md5|checksum|crc\w*|timestamp\w*|epoch|unix
        |dates?\b|dated|total\w*|amount\w*|price\w*|cost\w*|sum\b|transaction\w*|txn\w*|request\w*|trace\w*|session\w*|customer.\w+|cust\w*|account\w*|acct|policy|contract\w*|article\w*|item\w*|product\w*
        |asin|doi\b|arxiv|pmid|orcid|coord\w*|lat\b|latitude|lon\b|lng\b|longitude|geo\b|pid\b|line\b|row\b|page\b|room|zip|postcode|flight|booking|confirmation|reservation|member\w*|employee\w*|student\w*|patent
        |bestell\w*|rechnung\w*|auftrag\w*|sendung\w*|vorgang\w*|kunden\w*|artikel\w*|serien\w*|aktenzeichen|charge.?n\w+|paket\w*|commande\w*|facture\w*|suivi|colis|dossier
        |pedido\w*|factura\w*|seguimiento|env[íi]o|guía|ordine|fattura|spedizion\w*|pratica|zam[óo]wien\w*|faktur\w*|przesy[łl]k\w*|bestelling\w*|factuur\w*|zending\w*|encomenda|fatura|objedn\w*
        |z[áa]silk\w*|tilaus\w*|lasku\w*|best[äa]llning\w*|ordren\w*|заказ\w*|накладн\w*|сч[её]т\w*|артикул\w*|трек\w*|订单\w*|訂單\w*|单号|單號|运单\w*|快递\w*|物流\w*|注文\w*|伝票\w*|追跡\w*|주문\w*|운송장\w*|송장\w*
        |sipari[şs]\w*|kargo\w*|रसीद|ऑर्डर|طلب|فاتورة|הזמנה|หมายเลขพัสดุ|คำสั่งซื้อ|đơn.hàng|mã.vận""",
}
# Each word has a letter first, or a character that may be missing and then a letter, where it is found as well.
_NEAREST: Final = re.compile(
    r"(?=[^\W\d_])(?<![a-zà-žα-ωа-я])(?:"
    + "|".join(f"(?P<{topic}>{''.join(_WORDS[topic].split())})" for topic in get_args(Topic))
    + ")"
)
_LINES_END: Final = "\n\r\x0b\x0c\x85\u2028\u2029"
_LETTER: Final = re.compile(r"[^\W\d_]")
_CAMEL: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")
_BROKEN: Final = re.compile(r"(?s:.*)(?:[.;!?,](?=\s)|\d)")


class Around:
    """What is written around a span of a text, on its line. What its words say is looked up once."""

    def __init__(self, text: str, start: int, end: int) -> None:
        before = text[max(start - BEFORE, 0) : start].splitlines()
        after = text[end : end + AFTER].splitlines()
        self.before = _words(before[-1]) if before and text[start - 1] not in _LINES_END else ""
        self.after = _words(after[0]) if after else ""

    @cached_property
    def topic(self) -> Topic | None:
        """What the nearest word says; None: no word says anything."""
        if not self.before and not self.after:
            return None
        return self._last(self.before) or self._first(self.after)

    @cached_property
    def denied(self) -> bool:
        """Whether it is plainly called something else: no number and no end of a sentence stands between."""
        if not self.before:
            return False
        broken = _BROKEN.match(self.before)
        return self._last(self.before[broken.end() :] if broken else self.before) in ("other", "phone")

    def says(self, words: re.Pattern[str]) -> bool:
        return words.search(self.before) is not None or words.search(self.after) is not None

    @staticmethod
    def _last(text: str) -> Topic | None:
        last = None
        for found in _NEAREST.finditer(text):
            last = found.lastgroup
        return last  # type: ignore[return-value]

    @staticmethod
    def _first(text: str) -> Topic | None:
        found = _NEAREST.search(text)
        return found.lastgroup if found else None  # type: ignore[return-value]


def _words(text: str) -> str:
    """As words are written: `phoneNumber` and `phone_number` are two. Tables of numbers have none, and cost little."""
    if _LETTER.search(text) is None:
        return ""
    return _CAMEL.sub(" ", text).lower().replace("_", " ")
