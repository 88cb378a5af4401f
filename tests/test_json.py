"""JSON is read without surprises, or refused in one sentence."""

import pytest

from hiersearch._json import parsed_json


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 200_000, "nested too deep"),
        ('{"a": ' * 200_000, "nested too deep"),
        ("9" * 5000, "thousands of digits"),
        ('{"a": NaN}', "it has NaN, which is no number of JSON"),
        ("[-Infinity]", "it has -Infinity"),
        ('{"a": {"b": 1, "c": 2, "b": 3}}', "the key 'b' twice"),
        ('{"a": 1', "it is no JSON: .* line 1 column 8"),
        ("", "it is no JSON"),
        (b'"\xff"', r"not Unicode text \(byte 1\)"),
    ],
)
def test_what_cannot_be_taken_as_it_stands_is_refused_in_one_sentence(text, message):
    with pytest.raises(ValueError, match=message) as error:
        parsed_json(text)
    assert "\n" not in str(error.value)
    assert "set_int_max_str_digits" not in str(error.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_all_encodings_of_unicode_are_read(encoding):
    assert parsed_json('{"ä": [1, 2.5, null, true]}'.encode(encoding)) == {
        "ä": [1, 2.5, None, True]
    }
