# Several labels a text: one-vs-rest logistic regression on TF-IDF, and fastText's one-vs-all, on the
# fastText files that bench/labels.mjs writes. One threshold for all labels, the best on the validation
# texts by micro F1, as edgelabel has it. Prints one JSON object a peer.
import json
import sys

import fasttext
import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.preprocessing import MultiLabelBinarizer

PREFIX = "__label__"


def read(path):
    texts, labels = [], []
    for line in open(path, encoding="utf-8"):
        words = line.rstrip("\n").split(" ")
        count = next(i for i, word in enumerate(words) if not word.startswith(PREFIX))
        labels.append([word[len(PREFIX):] for word in words[:count]])
        texts.append(" ".join(words[count:]))
    return texts, labels


def report(name, valid, valid_scores, test, test_scores):
    thresholds = np.arange(1, 1000) / 1000
    best = max(thresholds, key=lambda t: f1_score(valid, valid_scores >= t, average="micro", zero_division=0))
    given = test_scores >= best
    print(json.dumps({
        "name": name,
        "threshold": float(best),
        "micro_f1": f1_score(test, given, average="micro", zero_division=0),
        "macro_f1": f1_score(test, given, average="macro", zero_division=0),
        "exact": float((given == test).all(axis=1).mean()),
    }), flush=True)


folder = sys.argv[1]
(train_texts, train_labels), (valid_texts, valid_labels), (test_texts, test_labels) = (
    read(f"{folder}/{part}.ft") for part in ("train", "valid", "test"))
binarizer = MultiLabelBinarizer().fit(train_labels)
train, valid, test = (binarizer.transform(labels) for labels in (train_labels, valid_labels, test_labels))

# C is chosen on the validation texts, too.
for words in ((1, 1), (1, 2)):
    for c in (1, 4, 16):
        vectorizer = TfidfVectorizer(ngram_range=words, sublinear_tf=True)
        features = vectorizer.fit_transform(train_texts)
        model = OneVsRestClassifier(LogisticRegression(C=c, max_iter=1000)).fit(features, train)
        scores = [model.predict_proba(vectorizer.transform(texts)) for texts in (valid_texts, test_texts)]
        report(f"logistic regression, words to {words[1]}, C {c}", valid, scores[0], test, scores[1])

for epochs in (5, 25):
    model = fasttext.train_supervised(
        f"{folder}/train.ft", loss="ova", lr=0.5, epoch=epochs, wordNgrams=2, minCount=1, bucket=200000, thread=1, verbose=0)
    index = {label: i for i, label in enumerate(binarizer.classes_)}

    def score(texts):
        scores = np.zeros((len(texts), len(index)))
        # Through the extension: predict() of fasttext-wheel needs an older NumPy.
        for row, text in enumerate(texts):
            for value, label in model.f.predict(text + "\n", -1, 0.0, "strict"):
                scores[row, index[label[len(PREFIX):]]] = value
        return scores

    report(f"fastText one-vs-all, {epochs} epochs", valid, score(valid_texts), test, score(test_texts))
