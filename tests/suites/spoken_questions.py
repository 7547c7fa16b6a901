"""Write the three sets of spoken questions in the columns that the hub gives them."""

from pathlib import Path

from tests.suites import parquet


def llama_questions(root):
    columns = {"Questions": ["What is the capital of France?", "Who wrote Hamlet?"], "Answer": ["Paris", "Shakespeare"]}
    parquet.write(Path(root) / "data" / "test-00000-of-00001.parquet", columns)
    return Path(root)


def web_questions(root):
    columns = {
        "question": ["what are the official languages of canada?", "who is nobody?", "where is oslo?"],
        "answers": [["English", "French"], [], ["Norway"]],
    }
    parquet.write(Path(root) / "data" / "test-00000-of-00001.parquet", columns)
    return Path(root)


def trivia_qa(root):
    """In two files, of which one holds its answers as a list of spellings."""
    root = Path(root)
    for part in (0, 1):
        columns = {"question": [f"Which one, {part}?"] * 3, "answer": [["Elgar", "Sir Edward Elgar"]] * 3}
        parquet.write(root / f"test-0000{part}-of-00002.parquet", columns)
    return root
