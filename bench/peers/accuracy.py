"""Test accuracy and size of a linear SVM on TF-IDF and of fastText, on the data sets of bench/accuracy.mjs:

    python bench/peers/accuracy.py ../shared/data [set ...]

Prints a row for each set. The SVM sees words, pairs of words, and 2 to 5 letters within words; its C is chosen by
cross-validation on the training texts; its size is that of its weights as f32, without the vocabulary. fastText has 64
dimensions, pairs of words and 25 epochs; its size is that of its file. Both read Chinese character by character."""
import os
import re
import sys
import tempfile
from pathlib import Path

import fasttext
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import FeatureUnion
from sklearn.svm import LinearSVC

SETS = ["snips", "hwu64", "sms_spam", "massive_en", "massive_zh"]


def read(path):
    return [line.split("\t", 1) for line in path.read_text("utf8").splitlines() if line]


def words(text):
    """Lower-case words and Han characters, with a space between them."""
    return " ".join(re.findall(r"[\u3400-\u9fff]|[^\W\u3400-\u9fff]+", text.lower()))


def svm(train, test):
    of_words = TfidfVectorizer(preprocessor=words, token_pattern=r"\S+", ngram_range=(1, 2), sublinear_tf=True)
    of_letters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), min_df=2, sublinear_tf=True)
    features = FeatureUnion([("words", of_words), ("letters", of_letters)])
    matrix = features.fit_transform([text for _, text in train])
    search = GridSearchCV(LinearSVC(), {"C": [0.1, 0.3, 1, 3]}, cv=3).fit(matrix, [label for label, _ in train])
    accuracy = search.score(features.transform([text for _, text in test]), [label for label, _ in test])
    return accuracy, 4 * search.best_estimator_.coef_.size


def fast(train, test):
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "train.txt")
        Path(file).write_text("".join(f"__label__{label} {words(text)}\n" for label, text in train), "utf8")
        model = fasttext.train_supervised(file, dim=64, wordNgrams=2, epoch=25, thread=1, verbose=0)
        saved = os.path.join(folder, "model.bin")
        model.save_model(saved)
        right = sum(model.predict(words(text))[0][0] == f"__label__{label}" for label, text in test)
        return right / len(test), os.path.getsize(saved)


data, *sets = sys.argv[1:]
print("| set | SVM on TF-IDF | MB | fastText | MB |\n|---|--:|--:|--:|--:|")
for name in sets or SETS:
    train, test = read(Path(data, name, "train.tsv")), read(Path(data, name, "test.tsv"))
    cells = [f"{100 * accuracy:.1f} | {size / 1e6:.1f}" for accuracy, size in (svm(train, test), fast(train, test))]
    print(f"| {name} | {' | '.join(cells)} |", flush=True)
