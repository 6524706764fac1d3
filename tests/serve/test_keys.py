"""Who may ask, and whose a job is."""

from __future__ import annotations

import pytest

from serve.http.keys import VARIABLE, fingerprint, fingerprints, owner_of


def test_without_the_variable_the_service_is_open_to_all(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert fingerprints() == []
    assert owner_of(None, []) == owner_of("any", []) == ""


def test_keys_are_read_from_the_variable_and_only_fingerprints_leave_it(monkeypatch):
    monkeypatch.setenv(VARIABLE, " first ,,second,")
    known = fingerprints()
    assert known == [fingerprint("first"), fingerprint("second")]
    assert not any("first" in one or "second" in one for one in known)


@pytest.mark.parametrize("value", ["", " ", ",", " , ,"])
def test_a_variable_without_a_key_does_not_open_the_service(monkeypatch, value):
    monkeypatch.setenv(VARIABLE, value)
    with pytest.raises(ValueError, match=f"^{VARIABLE}: "):
        fingerprints()


def test_keys_are_read_from_a_file_beside_fingerprints_and_the_variable(monkeypatch, tmp_path):
    file = tmp_path / "keys"
    file.write_text("first\r\nsecond, third\n\n")
    monkeypatch.setenv(VARIABLE, "fifth")
    known = fingerprints(str(file), [fingerprint("fourth")])
    assert set(known) == {
        fingerprint(key) for key in ("first", "second", "third", "fourth", "fifth")
    }


@pytest.mark.parametrize(("text", "why"), [(None, "every node"), ("", "empty"), (",", "without a")])
def test_a_file_without_a_key_does_not_open_the_service(tmp_path, text, why):
    file = tmp_path / "keys"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ValueError, match=f"^api_keys_file: .*{why}"):
        fingerprints(str(file))


def test_each_key_has_an_owner_of_its_own_that_stays_the_same():
    known = [fingerprint("first"), fingerprint("second")]
    first, second = owner_of("first", known), owner_of("second", known)
    assert first and second and first != second
    assert owner_of("first", known[::-1]) == owner_of("first", known[:1]) == first


@pytest.mark.parametrize("key", [None, "", "First", "first ", "first,second", "third", "ü"])
def test_no_other_key_is_let_in(key):
    assert owner_of(key, [fingerprint("first"), fingerprint("second")]) is None


def test_a_fingerprint_is_no_key():
    known = [fingerprint("first")]
    assert owner_of(known[0], known) is None
