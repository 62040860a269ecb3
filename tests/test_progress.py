import io

import nbformat
import pytest
from nbclient import NotebookClient

from imbalkit import progress
from imbalkit.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def count_to(total, **options):
    bar = Progress(total, **options)
    for _ in range(total):
        bar.step("epoch 1 of 1")
    bar.finish("the table")


def test_a_terminal_shows_one_line_then_the_result(monkeypatch):
    out = Terminal()
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_UPDATES", 0)
    count_to(4)
    text = out.getvalue()
    assert "epoch 1 of 1 · 2 of 4 batches · 0:00 left" in text
    assert text.endswith("\r\033[Kthe table\n") and text.count("\n") == 1


def test_updates_are_rare(monkeypatch):
    out = Terminal()
    monkeypatch.setattr("sys.stdout", out)
    count_to(1000)
    assert out.getvalue().count("left") <= 2


def test_a_file_or_a_silent_fit_shows_nothing(monkeypatch, capsys):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_UPDATES", 0)
    count_to(3)
    assert capsys.readouterr().out == ""
    out = Terminal()
    monkeypatch.setattr("sys.stdout", out)
    count_to(3, visible=False)
    assert out.getvalue() == ""


def test_the_time_left_counts_only_the_steps_of_this_run(monkeypatch):
    clock = iter([0.0, 10.0])
    monkeypatch.setattr(progress.time, "perf_counter", lambda: next(clock))
    out = Terminal()
    monkeypatch.setattr("sys.stdout", out)
    bar = Progress(100)
    bar.start_at(89)
    bar.step()  # one step took 10 s, ten steps are left
    assert "90 of 100" in out.getvalue() and "1:40 left" in out.getvalue()


@pytest.mark.notebooks
def test_a_saved_notebook_keeps_the_final_table_alone():
    source = """
from imbalkit import progress
progress.SECONDS_BETWEEN_UPDATES = 0
bar = progress.Progress(3)
for _ in range(3):
    bar.step("epoch 1 of 1")
bar.finish("the table")
"""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    NotebookClient(notebook, kernel_name="python3").execute()
    (output,) = notebook.cells[0].outputs
    assert output.output_type == "display_data" and "the table" in output.data["text/plain"]
