"""What the map makes of two experiments whose answer is known.

    python benchmarks/cells.py [--bbbc013 DIR] [--vampire DIR] [--cache DIR] [--quick]

- **BBBC013** (U2OS cells, FKHR-GFP; Broad Bioimage Benchmark Collection, Ljosa et al. 2012): rows A–D of a plate,
  twelve columns of rising dose. Nuclei are found in the DNA channel by simple means, widened by a ring, and mapped by
  their GFP picture. No dose enters; then the share of each cluster in a well is set against the dose (Spearman, per
  well).
- **VAMPIRE** (mouse fibroblasts, wild type and lamin A/C knock-out; Phillip et al. 2021, GPL-3: measured here only, and
  nothing made from it is kept): cells by the labels that come with it, composition of the two types, tested by image.

Projects are made in the cache folder and used again if they are there. The last line is a JSON list of figures;
for Spearman the reference is 0.5, which a cluster must exceed to be said to follow the dose.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage
from scipy.stats import spearmanr
from skimage.filters import gaussian, threshold_otsu
from skimage.measure import label
from skimage.morphology import remove_small_objects
from skimage.segmentation import expand_labels, watershed

from cell_curator.core.clustering import ClusterParameters
from cell_curator.core.jobs import drive
from cell_curator.core.patches import PatchParameters
from cell_curator.core.recipe import DEFAULT, Channel
from cell_curator.engines.vae import VaeParameters
from cell_curator.io.images import read_image
from cell_curator.io.tiff import write_tiff
from cell_curator.map_reading import Judgement, judge
from cell_curator.session import Session

_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
_RING = 8  # px about a nucleus, where the protein goes when it leaves it
_FOLLOWS = 0.5


def nuclei(dna: np.ndarray) -> np.ndarray:
    """Label image of bright round things, by Otsu's threshold and the distance to the rim."""
    smooth = gaussian(dna.astype(np.float32), 1)
    inside = ndimage.binary_fill_holes(smooth > threshold_otsu(smooth))
    inside = remove_small_objects(inside, max_size=40)
    depth = gaussian(ndimage.distance_transform_edt(inside), 1.5)
    tops = (depth == ndimage.maximum_filter(depth, size=13)) & inside
    return watershed(-depth, label(tops), mask=inside).astype(np.int32)


def make_bbbc013(source: Path, folder: Path) -> Session:
    """A project of 48 wells with two channels; the condition of an image is its dose."""
    with (source / "1049_Metadata.csv").open() as stream:
        doses = {f"{row['Row']}-{row['Column']}": int(row["SBS_Doses"]) for row in csv.DictReader(stream)}
    images = folder / "images"
    for file in sorted(source.glob("Channel1-*-[A-D]-*.tif")):
        well = "-".join(file.stem.split("-")[2:])
        protein = read_image(file)[0]
        dna = read_image(file.with_name(file.name.replace("Channel1", "Channel2")))[0]
        target = images / f"dose {doses[well]:02d}" / f"{well.replace('-', '')}.tif"
        target.parent.mkdir(parents=True, exist_ok=True)
        write_tiff(target, np.stack([protein, dna]))
    session = Session.create(folder / "bbbc013.curator")
    drive(session.add_images(images))
    session.put(DEFAULT.model_copy(update={"channel": Channel(mode="index", index=0)}))
    for record in session.images:
        labels = expand_labels(nuclei(session.pixels(record.image_id)[1]), _RING).astype(np.int32)
        session.set_labels(record.image_id, labels)
    return session


def make_vampire(source: Path, folder: Path) -> Session:
    """A project of the twenty labelled fields, conditions wild type and knock-out."""
    images = folder / "images"
    for kind in ("MEF_wildtype", "MEF_LMNA--"):
        for file in sorted((source / kind / "images").glob("*.tif")):
            target = images / kind.strip("-") / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            write_tiff(target, read_image(file)[:1])
    session = Session.create(folder / "vampire.curator")
    drive(session.add_images(images))
    for record in session.images:
        kind = "MEF_LMNA--" if record.condition == "MEF_LMNA" else record.condition
        session.set_labels(record.image_id, read_image(source / kind / "labels" / record.path.name)[0].astype(np.int32))
    return session


def learn(session: Session, patch: PatchParameters, steps: int, k: int) -> tuple[Judgement, float]:
    """Map and judge the project, unless that was done before."""
    session.put(patch)
    session.put(VaeParameters(latent=16, steps=steps))
    session.put(ClusterParameters(k=k))
    start = time.perf_counter()
    if session.embedding is None or session.embedding.detail["parameters"]["VaeParameters"]["steps"] != steps:
        drive(session.embed())
    return drive(judge(session)), time.perf_counter() - start


def dose_figures(session: Session) -> list[dict[str, Any]]:
    """How the share of each cluster in a well follows the dose of the well."""
    frame = session.cells.frame
    frame = frame[frame["cluster"] >= 0]
    dose = {record.image_id: int(record.condition.split()[1]) for record in session.images}
    images = sorted(frame["image"].unique())
    found = []
    for number in sorted(frame["cluster"].unique()):
        share = (frame["cluster"] == number).groupby(frame["image"]).mean().reindex(images)
        rho, p = spearmanr([dose[i] for i in images], share.to_numpy())
        by_dose = share.groupby([dose[i] for i in images]).mean()
        found.append(
            {"cluster": int(number) + 1, "rho": float(rho), "p": float(p), "share_by_dose": by_dose.round(3).tolist()}
        )
    return found


def say(name: str, session: Session, judged: Judgement, seconds: float) -> None:
    """Print the composition and what speaks against it."""
    made = judged.comparison
    print(f"\n{name}: {made.counts.sum()} cells of {len(session.images)} {made.unit}s, {seconds:.0f} s")
    print(f"  {'cluster':8}" + "".join(f"{c[:14]:>15}" for c in made.conditions) + "       p  p Holm  effect")
    for test in made.tests:
        shares = "".join(f"{100 * share:14.1f}%" for share in test.shares)
        print(f"  {test.cluster + 1:<8}{shares}  {test.p:6.4f}  {test.q:6.4f}  {test.word} ({test.effect:.2f})")
    print(f"  composition as a whole: p {made.p:.4f} ({made.arrangements} arrangements of {made.unit}s)")
    print(f"  map tells two {made.unit}s of one condition apart: {judged.batch.image:.2f}; "
          f"two conditions: {judged.batch.condition:.2f} (chance 0.50)")  # fmt: skip
    print("  clusters come back (Jaccard): " + ", ".join(f"{v:.2f}" for v in judged.stability.jaccard))
    for row in judged.honesty:
        print(f"  {row.what} | {row.space} | {row.split}: {row.value:.3f}")
    for line in judged.warnings:
        print(f"  ! {line}")


def main() -> None:
    """Run what the options ask for and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bbbc013", type=Path, default=_DATA / "multichannel" / "bbbc013")
    parser.add_argument("--vampire", type=Path, default=_DATA / "vampire_mef")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "cell-curator-cells")
    parser.add_argument("--clusters", type=int, default=4)
    parser.add_argument("--quick", action="store_true", help="learn for 100 steps")
    chosen = parser.parse_args()
    steps = 100 if chosen.quick else 1500
    figures: list[dict[str, Any]] = []
    for name, source, make, patch in (
        ("BBBC013", chosen.bbbc013, make_bbbc013, PatchParameters(size=48, method="mask")),
        ("VAMPIRE", chosen.vampire, make_vampire, PatchParameters(size=64, method="resize", masked=True, turn="own")),
    ):
        if not source.is_dir():
            print(f"{name}: {source} is not there; left out")
            continue
        folder = chosen.cache / name.lower()
        project = folder / f"{name.lower()}.curator"
        if not project.is_dir():
            shutil.rmtree(folder, ignore_errors=True)
            make(source, folder).close()
        session = Session.open(project)
        try:
            judged, seconds = learn(session, patch, steps, chosen.clusters)
            say(name, session, judged, seconds)
            figures.append(_figure(name, session, judged))
        finally:
            session.close()
    print(json.dumps(figures))


def _figure(name: str, session: Session, judged: Judgement) -> dict[str, Any]:
    if name == "BBBC013":
        rows = dose_figures(session)
        for row in rows:
            print(
                f"  cluster {row['cluster']}: Spearman with dose {row['rho']:+.2f} (p {row['p']:.1e}), "
                f"by dose {row['share_by_dose']}"
            )
        best = max(abs(row["rho"]) for row in rows)
        return {
            "name": "BBBC013: |Spearman| of a cluster's share in a well with the dose, largest", "ours": round(best, 3),
            "reference": _FOLLOWS, "ratio": round(best / _FOLLOWS, 2), "goal": 1.0, "met": best > _FOLLOWS,
            "clusters": rows, "wells": len(session.images),
        }  # fmt: skip
    made = judged.comparison
    return {
        "name": "VAMPIRE: p that wild type and knock-out differ in composition, by image", "ours": made.p,
        "reference": 0.05, "ratio": round(0.05 / made.p, 2), "goal": 1.0, "met": made.p < 0.05,
        "shares": {
            str(test.cluster + 1): dict(zip(made.conditions, test.shares.round(3).tolist(), strict=True))
            for test in made.tests
        },
    }  # fmt: skip


if __name__ == "__main__":
    main()
