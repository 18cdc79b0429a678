"""XML for a carrier says what was meant, whatever the text; XML from one is read without a DTD."""

import pytest

from anycarrier.errors import ConfigurationError, MalformedMessage
from anycarrier.markup import Markup, document, element, first_text, fits_xml, read_xml, texts, tree


def test_text_and_attributes_are_escaped_and_elements_are_not_escaped_again() -> None:
    inner = element("Number", {}, "a<b&c")
    assert inner == "<Number>a&lt;b&amp;c</Number>"
    assert element("Dial", {"callerId": 'x"y<z', "action": None, "on": True, "timeout": 0}, inner, "&") == (
        "<Dial callerId='x\"y&lt;z' on=\"true\" timeout=\"0\"><Number>a&lt;b&amp;c</Number>&amp;</Dial>"
    )
    assert element("Hangup") == "<Hangup/>"


def test_a_plain_string_cannot_bring_in_an_element() -> None:
    hostile = "</Number><Dial>+19005550100</Dial>"
    assert read_xml(element("Number", {"name": hostile}, hostile)).text == hostile
    assert element("Number", {}, Markup("<A/>")) == "<Number><A/></Number>"


def test_a_document_has_its_declaration() -> None:
    assert document(element("Response")) == '<?xml version="1.0" encoding="UTF-8"?><Response/>'


@pytest.mark.parametrize("text", ["\x00", "a\x1bb", "\ud800", "\ufffe"])
def test_characters_that_xml_cannot_carry_are_refused(text: str) -> None:
    assert not fits_xml(text)
    with pytest.raises(ConfigurationError):
        element("Say", {}, text)
    with pytest.raises(ConfigurationError):
        element("Say", {"a": text})


def test_all_other_text_fits() -> None:
    assert fits_xml("tab\t line\r\n Grüße \U0001f600")


def test_bytes_that_are_no_text_are_replaced() -> None:
    assert read_xml(b"<a>\xff</a>").text == "\ufffd"


def test_texts_are_found_by_name_whatever_the_namespace() -> None:
    root = read_xml(b'<a xmlns="urn:x"><Code>1</Code><b><ErrorCode> 2 </ErrorCode></b><Code/></a>')
    assert [*texts(root, "Code", "ErrorCode")] == ["1", "2"]
    assert (first_text(root, "Code", "ErrorCode"), first_text(root, "Nothing")) == ("1", "")


@pytest.mark.parametrize(
    "body",
    ["", "{}", "<a>", "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", "<a>" + "x" * (1 << 20) + "</a>", "<a>" * 100_000],
    ids=["nothing", "json", "open", "doctype", "long", "deep"],
)
def test_what_is_no_plain_document_is_malformed(body: str) -> None:
    with pytest.raises(MalformedMessage):
        read_xml(body)


def test_fields_become_elements_of_elements_and_are_escaped() -> None:
    made = tree("Order", {"SiteId": "7", "Numbers": {"Number": "a<b"}, "Empty": ""})
    assert made == "<Order><SiteId>7</SiteId><Numbers><Number>a&lt;b</Number></Numbers><Empty/></Order>"
