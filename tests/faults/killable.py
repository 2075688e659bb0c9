"""Work on a project in a process of its own that can be killed at any moment, cheaply: one process imports
everything once, and a copy of it does the work.

    python killable.py KIND    reads lines ``FOLDER SEED``; answers with the process at work, then how it ended
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
from skimage.measure import label

from cell_curator.core.jobs import Progress, UserError, drive
from cell_curator.editing import edit
from cell_curator.engines.segmenter import Segmentation
from cell_curator.engines.worker import inline
from cell_curator.session import Session


def engine(target, /, **arguments):
    """Stands in for the network: bright is a cell."""
    if not target.endswith(":segment_image"):
        return (yield from inline(target, **arguments))
    yield Progress(0.5, "looking")
    found = label(arguments["image"] > 0.5).astype(np.int32)
    return Segmentation(found, 14.0, False, np.zeros(found.max() + 1, np.float32))


def batch(folder, seed):
    """What `run` does to the images of a folder, but for the map."""
    session = Session.open(folder, execute=engine)
    drive(session.add_images(folder.parent / "images"))
    drive(session.segment())
    drive(session.score_outliers())
    session.close()


def editing(folder, seed):
    """Strokes, splits, verdicts and steps back, for ever."""
    session, rng = Session.open(folder), np.random.default_rng(seed)
    while True:
        image = int(rng.choice([record.image_id for record in session.images]))
        labels, rows = session.labels(image), session.cells.of_image(image)
        rows = rows[rows["verdict"] != "accepted"]
        free = [*rows["label"].tolist(), int(labels.max()) + 1]
        y, x = rng.integers(0, labels.shape)
        try:
            which = rng.integers(5)
            if which == 0:
                part = labels[y : y + 12, x : x + 12]
                part[np.isin(part, [0, *free])] = rng.choice(free)
                session.set_labels(image, labels)
            elif which == 1 and len(rows):
                edit(session, image, "grow", labels=rows["label"].tolist()[:2])
            elif which == 2 and len(rows):
                session.set_verdict(rows.index[:2], str(rng.choice(["edited", "rejected", "proposed"])))
            elif which == 3:
                session.undo()
            else:
                edit(session, image, "split", points=rng.uniform(0, 80, (3, 2)))
        except UserError:
            continue


def training(folder, seed):
    """A round of retraining, which keeps how far it came after every step."""
    from cell_curator.engines import checkpoint
    from cell_curator.engines.finetune import TrainParameters
    from cell_curator.rounds import train_round

    checkpoint.EVERY, checkpoint.SHARE = 0.0, 1.0
    session = Session.open(folder)
    drive(train_round(session, TrainParameters(
        epochs=2, learning_rate=1e-3, batch_size=2, tile=96, images_per_epoch=4, evaluate_every=1, min_train_masks=0,
    )))  # fmt: skip
    session.close()


WORK = {"batch": batch, "editing": editing, "training": training}


class Killable:
    """One kind of work, begun and killed as often as one likes."""

    def __init__(self, kind):
        self._process = subprocess.Popen(
            [sys.executable, __file__, kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout.readline() == "ready\n"

    def __call__(self, folder, seed=0, seconds=None):
        """Work, and be killed after so many seconds (None: never); how long it took, or None if it was killed."""
        self._process.stdin.write(f"{seed} {folder}\n")
        self._process.stdin.flush()
        start, child = time.monotonic(), int(self._process.stdout.readline())
        if seconds is not None:
            time.sleep(seconds)
            with suppress(ProcessLookupError):  # it was faster
                os.kill(child, 9)
        ended = int(self._process.stdout.readline())
        assert os.waitstatus_to_exitcode(ended) in (0, -9), "the work failed"
        return time.monotonic() - start if ended == 0 else None

    def close(self):
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


def main():
    work = WORK[sys.argv[1]]
    for name in ("zarr", "cv2", "numba", "imagecodecs", *(["torch", "cellpose.models"] if work is training else [])):
        importlib.import_module(name)  # once, not in every copy
    print("ready", flush=True)
    for line in sys.stdin:
        seed, folder = line.rstrip("\n").split(" ", 1)
        child = os.fork()
        if child == 0:
            try:
                work(Path(folder), int(seed))
                os._exit(0)
            except BaseException:
                import traceback

                traceback.print_exc()
                os._exit(1)
        print(child, flush=True)
        print(os.waitpid(child, 0)[1], flush=True)


if __name__ == "__main__":
    main()
