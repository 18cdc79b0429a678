"""Text as it is read aloud: what is written, and the words for it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anycarrier.speech import spoken_form, spoken_sentences
from anycarrier.speech.sentence_ends import SENTENCE_END

ENGLISH = """
Hello there.                                       => Hello there.
**Hello** _there_                                  => Hello there
See [our page](https://example.com/a?b=c).         => See our page.
<speak>Hi</speak>                                  => Hi
A&amp;B                                            => A and B
# Title                                            => Title
- one                                              => one
`anycarrier serve`                                 => anycarrier serve
Mon | Tue                                       => Mon Tue
| Name | Price |                          => Name, Price
"quoted" ‘text’…                                   => "quoted" 'text'...
Hi \U0001f600\U0001f44d\U0001f3fd!                 => Hi!
zero\u200bwidth                                    => zerowidth
a\x00b\x1bc                                        => a b c
Call +1 (415) 555-0132.                            => Call plus 1, 4 1 5, 5 5 5, 0 1 3 2.
(415) 555-0132                                     => 4 1 5, 5 5 5, 0 1 3 2
+14155550132                                       => plus 1, 4 1 5, 5 5 5, 0 1 3 2
4155550132                                         => 4 1 5, 5 5 5, 0 1 3 2
+44 20 7946 0123                                   => plus 4 4, 2 0, 7 9 4 6, 0 1 2 3
+442079460123                                      => plus 4 4, 2 0, 7 9 4 6, 0 1 2 3
0800 555 0199                                      => 0 8 0 0, 5 5 5, 0 1 9 9
555-0132                                           => 5 5 5, 0 1 3 2
415-555-0132, ext. 12                              => 4 1 5, 5 5 5, 0 1 3 2, extension 12
4111 1111 1111 1111                                => 4 1 1 1, 1 1 1 1, 1 1 1 1, 1 1 1 1
Your code is 482913                                => Your code is 4 8 2 9 1 3
Your PIN is 4821.                                  => Your PIN is 4 8 2 1.
It costs 1500 dollars in 2026                      => It costs 1500 dollars in 2026
1,250,000 people                                   => 1,250,000 people
Pi is 3.14159265                                   => Pi is 3.14159265
It is $1,249.50.                                   => It is one thousand two hundred forty-nine dollars and fifty cents.
$1                                                 => one dollar
$0.50                                              => fifty cents
$1.01                                              => one dollar and one cent
-$20                                               => minus twenty dollars
$1.5 million                                       => one point five million dollars
$2k                                                => two thousand dollars
€20 or 20 €                                        => twenty euros or twenty euros
£3.99                                              => three pounds and ninety-nine pence
USD 1500                                           => one thousand five hundred dollars
12/03/2026                                         => December third, twenty twenty-six
31/12/2026                                         => December thirty-first, twenty twenty-six
2005-03-12                                         => March twelfth, two thousand five
March 12, 1905                                     => March twelfth, nineteen oh five
The 3rd of May                                     => The third of May
12 March 2000                                      => the twelfth of March, two thousand
Jan. 5                                             => January fifth
In May 2026                                        => In May 2026
99/99/2026                                         => 99 slash 99 slash 2026
9:05am                                             => nine oh five AM
9:05 a.m. Then                                     => nine oh five AM. Then
2:30 p.m. today                                    => two thirty PM today
14:05                                              => fourteen oh five
At 2:00                                            => At two o'clock
9am-5pm                                            => nine AM to five PM
Mon-Fri 10:30-11:30                                => Monday to Friday ten thirty to eleven thirty
12:99                                              => 12:99
50% of 3.5%                                        => fifty percent of three point five percent
-5°C or 72 °F                                      => minus five degrees Celsius or seventy-two degrees Fahrenheit
5km, 10 kg, 1 ft, 60 mph                           => five kilometers, ten kilograms, one foot, sixty miles per hour
5G and 5 GB                                        => 5 G and five gigabytes
1st, 2nd, 3rd, 21st, 100th                         => first, second, third, twenty-first, one hundredth
1/2 cup, 3/4, 24/7                                 => one half cup, three quarters, twenty-four seven
2-3 days                                           => 2 to 3 days
The 2020-2026 report                               => The 2020 to 2026 report
Write to help@example.com.                         => Write to help at example dot com.
john.doe_99@ex-ample.co.uk                         => john dot doe underscore 9 9 at ex dash ample dot co dot U K
https://www.example.com/docs.                      => example dot com slash docs.
example.com/docs                                   => example dot com slash docs
https://a.example.io/x/y/z/w?utm=1#top             => a dot example dot I O
221B                                               => 2 2 1 B
AB12-C                                             => A, B 1 2, C
Flight BA2490                                      => Flight B A, 2 4 9 0
S-M-I-T-H                                          => S, M, I, T, H
COVID-19                                           => COVID-19
Order no. 7                                        => Order number 7
Order No. 48213 is ready                           => Order number 4 8 2 1 3 is ready
#7 and apt. 4                                      => Number 7 and apartment 4
No. It is not.                                     => No. It is not.
Dr. Smith lives at 221B Baker St. Call him.        => Doctor Smith lives at 2 2 1 B Baker Street. Call him.
12 Main St., apt. 4B                               => 12 Main Street, apartment 4 B
St. Paul, 5 Sunset Dr. and Dr. No                  => Saint Paul, 5 Sunset Drive and Doctor No
e.g. tea, i.e. a drink                             => for example tea, that is a drink
Pens, etc. Call us.                                => Pens, et cetera. Call us.
Mr. Jones and Mrs. Lee vs. Ms. Poe                 => Mister Jones and Missus Lee versus Miz Poe
Acme Inc. and Acme Inc. They                       => Acme Incorporated and Acme Incorporated. They
tea w/o milk                                       => tea without milk
2 + 2 = 4, 5*3                                     => 2 plus 2 equals 4, 5 times 3
R&D and/or sales                                   => R and D and or sales
Your code: 007 194                                 => Your code: 0 0 7, 1 9 4
Your code is 482-913                               => Your code is 4 8 2, 9 1 3
ZIP 02139, lot 007, 79-056                         => ZIP 0 2 1 3 9, lot 0 0 7, 79-0 5 6
Springfield, IL 62704                              => Springfield, IL 6 2 7 0 4
the card ending in 4242                            => the card ending in 4 2 4 2
Call 911.                                          => Call 9 1 1.
415-555-0132x42                                    => 4 1 5, 5 5 5, 0 1 3 2, extension 42
+49 (0)30 / 90 18 20                               => plus 4 9, 0, 3 0, 9 0, 1 8, 2 0
５５５－０１３２ and ٠١٢٣                           => 5 5 5, 0 1 3 2 and 0 1 2 3
1 000 000 or 5 000 people                          => 1,000,000 or 5,000 people
Python 3.10 costs 1.000.000                        => Python 3 point 1 0 costs 1,000,000
12,50 € or €1.200,00                               => twelve euros and fifty cents or one thousand two hundred euros
1,5 kg                                             => one point five kilograms
US$12, $10-20, $1-$2                               => twelve dollars, ten to twenty dollars, one dollar to two dollars
$5/mo or $5/month                                  => five dollars per month or five dollars per month
1½ cups, 10⁶, 10 m²                                => 1 and one half cups, 10^6, ten square meters
It ships on 3/4.                                   => It ships on March fourth.
2026-03-12T14:30:00Z                               => March twelfth, twenty twenty-six at fourteen thirty UTC
Press * or #, or dial *67.                         => Press star or pound, or dial star 6 7.
press *1* now                                      => press 1 now
about .5 miles                                     => about .5 miles
C# and .NET                                        => C sharp and .NET
"""

OTHERS = """
de-DE => Ruf +49 30 901820 an                 => Ruf + 4 9, 3 0, 9 0 1, 8 2 0 an
de-DE => am 12.03.2026, **1.000.000** Leute   => am 12.03.2026, 1.000.000 Leute
de-DE => help@example.com und www.example.de/x => help@example.com und example.de
de-DE => 50% von 3 kg                         => 50% von 3 kg
fr    => 06 12 34 56 78 ou 1 000 000          => 0 6, 1 2, 3 4, 5 6, 7 8 ou 1 000 000
es-MX => El código es AB12                    => El código es A, B 1 2
en-GB => 12/03/2026                           => the twelfth of March, twenty twenty-six
en_AU => March 3                              => the third of March
en    => 12/03/2026                           => December third, twenty twenty-six
"""


def rows(table: str) -> list[tuple[str, ...]]:
    return [tuple(part.strip(" ") for part in line.split("=>")) for line in table.strip("\n").split("\n")]


@pytest.mark.parametrize(("text", "spoken"), rows(ENGLISH))
def test_english_is_read_as_a_person_would(text: str, spoken: str) -> None:
    assert spoken_form(text) == spoken


@pytest.mark.parametrize(("language", "text", "spoken"), rows(OTHERS))
def test_other_languages_keep_what_their_engine_reads(language: str, text: str, spoken: str) -> None:
    assert spoken_form(text, language) == spoken


def test_the_table_has_its_sixty_lines() -> None:
    assert len(rows(ENGLISH)) + len(rows(OTHERS)) >= 60


ALPHABET = st.sampled_from(
    " \n.,:;!?()[]{}<>|/\\-+–*#_~`@&$€£%°'\"0123456789AaBbMmPpSstTdrR½é世\u0300\ufe0f\U0001f600\ud800"
)
WORDS = st.sampled_from(
    "St. Dr. no. 7 Jan 12/03/26 9:05 am $5 http://a.com/b a@b.de +1 555-0132 AB12-C % k Mon-Fri".split()
)


@given(st.lists(ALPHABET | WORDS).map("".join), st.sampled_from(["en-US", "en-GB", "de", "", "zh-CN"]))
def test_no_text_raises_and_nothing_unspeakable_is_left(text: str, language: str) -> None:
    spoken = spoken_form(text, language)
    assert all(c.isprintable() or c == "\n" for c in spoken)
    assert not re.search(r"[*#<>|~`_]|  ", spoken)
    assert all(0 < len(piece) <= 40 for piece in spoken_sentences(text, language, longest=40))
    spoken.encode()


@given(
    st.sampled_from(["+1 ", "+49 ", "+", "", "0"]),
    st.lists(st.text("0123456789", min_size=3, max_size=4), min_size=2, max_size=4),
    st.sampled_from([" ", "-", ".", ""]),
    st.sampled_from(["en-US", "en-GB", "de-DE", "fr"]),
)
def test_no_digit_of_a_telephone_number_is_lost(start: str, groups: list[str], separator: str, language: str) -> None:
    number = start + separator.join(groups)
    spoken = spoken_form(f"Call {number} now", language)
    assert re.findall(r"\d", spoken) == re.findall(r"\d", number)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "part", "0 |1.|01-|$1-|the *|1|1 |a.|@|http://|((1|[|](|<a|$1,|St. |+1|-|5 A|A-|a@|&|1/|Jan 1|12 Main ".split("|")
)
def test_a_long_text_of_any_kind_is_read_in_proportional_time(part: str) -> None:
    """About a second each. A pattern that tries everything again from each place would take hours."""
    text = part * (100_000 // len(part))
    assert all(spoken_sentences(text, language) is not None for language in ("en-US", "de"))
    assert len(spoken_form(text)) < 20 * len(text)


def test_sentences_are_spoken_one_by_one() -> None:
    assert spoken_sentences("Hello. How are you? Fine!\nBye") == ["Hello.", "How are you?", "Fine!", "Bye"]
    assert spoken_sentences("It is 3.5 miles, Dr Who.", "de") == ["It is 3.5 miles, Dr Who."]
    assert spoken_sentences(" ... *** \n") == []


def test_a_sentence_without_end_is_cut_and_nothing_is_lost() -> None:
    text = "one two three, " * 100
    pieces = spoken_sentences(text)
    assert all(len(piece) <= 400 for piece in pieces)
    assert " ".join(pieces).split() == text.split()
    assert "".join(spoken_sentences("x" * 1000)) == "x" * 1000


@pytest.mark.parametrize(
    "text",
    [
        "Order no. 7 is ready.|It is in apt. 4, e.g. upstairs.",
        "I said no.|Thank you.",
        "Ask Dr. Who, or St. Paul.|He is here.",
        "Bring tea, etc. to us.|Bring pens, etc.|Call us.",
        "We open at 9 a.m. on weekdays.|We close at 5 p.m.|Come in.",
        "It is J. K. Rowling.|Yes.",
        "See z.B. Seite 4, bzw. Nr. 5.|Danke.",
        "你好。|世界！",
        "你好？|世界！",
        "Am 3. März um 10 Uhr.|Den 12. marts.",
        "Sie sind Nummer 3.|Bitte warten Sie.",
        "Wir haben z. B. Brot.|Ja.",
    ],
)
def test_a_stop_after_an_abbreviation_ends_no_sentence(text: str) -> None:
    whole = text.replace("|", "" if "世" in text else " ")
    assert [part.strip() for part in SENTENCE_END.split(whole) if part.strip()] == [p.strip() for p in text.split("|")]


def test_numbers_of_a_list_are_read_with_their_lines() -> None:
    assert spoken_sentences("1. Open it.\n2. Close it.") == ["1. Open it.", "2. Close it."]
    assert spoken_sentences("„Wirklich?“ Ja.", "de") == ["„Wirklich?", "Ja."]
