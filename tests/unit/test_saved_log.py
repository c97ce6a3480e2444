"""The log that is joined over incarnations."""

from activities.replicas.saved_log import LIMIT, join

ID = "0a1b2c3d"


def kept(*logs: str) -> str:
    text = ""
    for incarnation, log in enumerate(logs, start=1):
        text = join(text, ID, 0, incarnation, log)
    return text


def test_each_incarnation_has_a_header() -> None:
    assert kept("a\n", "b") == (
        "=== 0a1b2c3d replica 0 incarnation 1 ===\na\n=== 0a1b2c3d replica 0 incarnation 2 ===\nb\n"
    )


def test_saved_again_takes_the_place_of_what_it_was() -> None:
    assert join(kept("a\n", "b\n"), ID, 0, 1, "a\naa\n") == kept("a\naa\n", "b\n")


def test_saved_out_of_order_stands_in_order() -> None:
    assert join(join("", ID, 0, 2, "b\n"), ID, 0, 1, "a\n") == kept("a\n", "b\n")


def test_line_of_the_training_that_looks_like_another_header_is_text() -> None:
    log = "=== ffffffff replica 0 incarnation 9 ===\n"
    assert join(kept(log, "b\n"), ID, 0, 2, "c\n") == kept(log, "c\n")


def test_oldest_bytes_go_first_and_headers_stay() -> None:
    text = kept("a" * LIMIT, "b" * 1000)
    assert len(text.encode()) <= LIMIT
    assert text.startswith("=== 0a1b2c3d replica 0 incarnation 1 ===\naaa")
    assert text.endswith("b" * 1000 + "\n")


def test_what_is_too_long_stays_one_section_when_saved_again() -> None:
    once = join("", ID, 0, 3, "x" * (2 * LIMIT))
    assert join(once, ID, 0, 3, "x" * (2 * LIMIT)) == once


def test_no_letter_is_cut_in_two() -> None:
    text = kept("é" * LIMIT)
    assert set(text.splitlines()[1]) == {"é"}
