"""The field's datasets: what each has, where users get it, and how it is evaluated.

None of them can be handed on here: each user agrees to its licence and gets it from its makers. The
annotation files have the names that ProHMR and SPIN gave them; one folder holds them all.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flowfit.models.errors import InputError
from flowfit.models.keypoints import LSP14
from flowfit.priors.data.datasets.files import read_dataset
from flowfit.priors.data.datasets.people import PictureSet

# the field's joints, by name in `dataset_people.SCHEMA`
_LIMBS = tuple(f"lsp:{name}" for name in LSP14.names if name != "HeadTop")
LSP_JOINTS = (*_LIMBS, "Head")  # 14: the limbs, the neck, and Human3.6M's head
H36M_JOINTS = (*_LIMBS, "Pelvis", "Spine", "Jaw", "Head")  # 17
MPI_INF_JOINTS = (*_LIMBS, "lsp:HeadTop", "Pelvis", "Spine", "Jaw")  # 17


@dataclass(frozen=True)
class Split:
    """One annotation file of a dataset.

    Attributes:
        files: names that it may have, below the folder of annotation files; the first there is it.
        joints: what it is evaluated on, names in `dataset_people.SCHEMA`; () where it has no truth.
        views: several cameras show each moment.
    """

    files: tuple[str, ...]
    joints: tuple[str, ...] = ()
    views: bool = False


@dataclass(frozen=True)
class Dataset:
    """A dataset of people in pictures.

    Attributes:
        title: its own name. has: what is known of its people. site: of its makers. licence: kind.
        pictures: folder of its pictures, below the folder of pictures. splits: by name.
    """

    title: str
    has: str
    site: str
    licence: str
    pictures: str
    splits: dict[str, Split]


_RESEARCH = "non-commercial research, on registration"
DATASETS: dict[str, Dataset] = {
    "h36m": Dataset(
        "Human3.6M",
        "11 people in a studio, 4 cameras; 2D and 3D joints (MoSh bodies were withdrawn)",
        "http://vision.imar.ro/human3.6m",
        _RESEARCH,
        "h36m",
        {
            "train": Split(("h36m_train.npz", "h36m_mosh_train.npz"), H36M_JOINTS),
            "val": Split(("h36m_val.npz", "h36m_valid_protocol1.npz"), H36M_JOINTS),
            "val-p2": Split(("h36m_val_p2.npz", "h36m_valid_protocol2.npz"), LSP_JOINTS),
            "val-p2-openpose": Split(("h36m_val_p2_openpose.npz",), LSP_JOINTS),
            "multiview": Split(("h36m_multiview.pkl",), LSP_JOINTS, views=True),
        },
    ),
    "mpi-inf-3dhp": Dataset(
        "MPI-INF-3DHP",
        "8 people, green screen and outdoors, 14 cameras; 2D and 3D joints",
        "https://vcai.mpi-inf.mpg.de/3dhp-dataset",
        _RESEARCH,
        "mpi_inf_3dhp",
        {
            "train": Split(("mpi_inf_3dhp_train.npz",), MPI_INF_JOINTS),
            "test": Split(("mpi_inf_3dhp_valid.npz", "mpi_inf_3dhp_test.npz"), MPI_INF_JOINTS),
        },
    ),
    "3dpw": Dataset(
        "3DPW",
        "60 films outdoors with a moving camera; SMPL bodies from worn sensors, 2D detections",
        "https://virtualhumans.mpi-inf.mpg.de/3DPW",
        _RESEARCH,
        "3DPW",
        {"test": Split(("3dpw_test.npz",), LSP_JOINTS)},
    ),
    "mpii": Dataset(
        "MPII Human Pose",
        "25,000 pictures from films; 2D joints (SPIN's files add fitted bodies)",
        "http://human-pose.mpi-inf.mpg.de",
        "non-commercial research",
        "mpii_human_pose_v1_u12_2",
        {"train": Split(("mpii_train_spin.npz", "mpii_train.npz"))},
    ),
    "coco": Dataset(
        "COCO keypoints",
        "photographs of everything; 2D joints (SPIN's files add fitted bodies)",
        "https://cocodataset.org",
        "annotations CC BY 4.0; each photograph its own",
        "coco",
        {
            "train": Split(("coco_2014_train_spin.npz", "coco_2014_train.npz")),
            "val": Split(("coco_val.npz",)),
        },
    ),
    "mannequin": Dataset(
        "Mannequin Challenge",
        "films of people who stand still while the camera moves; no joints",
        "https://google.github.io/mannequinchallenge",
        "annotations CC BY 4.0; the films belong to their owners",
        "MannequinChallenge",
        {"multiview": Split(("mannequin.pkl",), views=True)},
    ),
    "ah36m": Dataset(
        "AH36M (ambiguous Human3.6M)",
        "Human3.6M's protocol 2 with the legs or a side cut off; as Human3.6M",
        "http://vision.imar.ro/human3.6m",
        _RESEARCH,
        "h36m",
        {"test": Split(("ah36m_val_p2.npz", "ah36m.npz"), LSP_JOINTS)},
    ),
}
SYNTHETIC = "synthetic"  # made as it is evaluated: needs no file


@dataclass(frozen=True, eq=False)
class Found:
    """A dataset that was read: its people whose pictures are there, and what was passed over."""

    people: PictureSet
    joints: tuple[str, ...]
    views: bool
    missing: tuple[str, ...]


def find_dataset(name: str, files: Path | None = None, pictures: Path | None = None) -> Found:
    """People of a registered dataset, or of a file.

    Args:
        name: "3dpw-test", "h36m-val-p2", ... (dataset, dash, split; a dataset with one split needs
            none), or the path of a dataset file. files: folder of annotation files. pictures:
            folder of the datasets' picture folders; of a file, the folder its names start from.

    Raises:
        InputError: no such dataset; a file or its pictures are missing, with where to get them.
    """
    if Path(name).suffix in (".npz", ".pkl", ".pickle"):
        people = read_dataset(Path(name).expanduser(), pictures)
        people, missing = people.with_pictures()
        has_truth = bool((people.points_confidence > 0).any())
        joints = LSP_JOINTS if has_truth or people.has_pose.any() else ()
        return Found(people, joints, bool((people.frame >= 0).any()), missing)
    dataset, split, title = _named(name)
    folder = files or Path("data/datasets")
    there = [folder / file for file in split.files if (folder / file).is_file()]
    if not there:
        raise InputError(
            f"{title}: no {' or '.join(split.files)} in {folder}; make it from {dataset.site} "
            f"({dataset.licence}) and say where it is with --files"
        )
    root = (pictures or folder) / dataset.pictures
    if not root.is_dir():
        raise InputError(
            f"{title}: no folder {root} with its pictures; get them from {dataset.site} "
            f"({dataset.licence}) and say where they are with --pictures"
        )
    people, missing = read_dataset(there[0], root, name).with_pictures()
    return Found(people, split.joints, split.views, missing)


def _named(name: str) -> tuple[Dataset, Split, str]:
    for key, dataset in DATASETS.items():
        if name == key and len(dataset.splits) == 1:
            return dataset, next(iter(dataset.splits.values())), dataset.title
        split = dataset.splits.get(name.removeprefix(f"{key}-")) if name != key else None
        if name.startswith(f"{key}-") and split is not None:
            return dataset, split, f"{dataset.title} ({name.removeprefix(f'{key}-')})"
    known = [SYNTHETIC, *(f"{key}-{split}" for key, d in DATASETS.items() for split in d.splits)]
    raise InputError(
        f"no dataset {name!r}: choose from {', '.join(known)}, or give a dataset file (.npz, .pkl)"
    )


@dataclass(frozen=True, eq=False)
class Mixture:
    """Sets that a training draws from, each by its weight.

    Attributes:
        sets: of any roots. weights: (M,) how likely a person comes from each; sum 1.
    """

    sets: tuple[PictureSet, ...]
    weights: np.ndarray

    def draw(self, count: int, generator: np.random.Generator) -> list[tuple[PictureSet, int]]:
        """People: the set and the row of each. Within a set all are equally likely."""
        which = generator.choice(len(self.sets), size=count, p=self.weights)
        places = generator.random(count)
        return [
            (self.sets[one], int(place * len(self.sets[one])))
            for one, place in zip(which, places, strict=True)
        ]


def mix(sets: dict[str, PictureSet], weights: dict[str, float]) -> Mixture:
    """A mixture by names.

    Raises:
        InputError: a weight for no set, none above zero, or a set with nobody in it.
    """
    unknown = [name for name in weights if name not in sets]
    if unknown:
        raise InputError(f"weight for {unknown[0]!r}: the sets are {', '.join(sets)}")
    used = {name: weights.get(name, 0.0) for name in sets if weights.get(name, 0.0) != 0}
    if not used or not all(np.isfinite(w) and w > 0 for w in used.values()):
        raise InputError("the weights of a mixture must be positive numbers, one at least")
    empty = [name for name in used if not len(sets[name])]
    if empty:
        raise InputError(f"{empty[0]}: has nobody to draw")
    values = np.array(list(used.values()), dtype=np.float64)
    return Mixture(tuple(sets[name] for name in used), values / values.sum())


# ProHMR's own mixture
PAPER_WEIGHTS = {"h36m-train": 0.3, "mpii-train": 0.1, "coco-train": 0.4, "mpi-inf-3dhp-train": 0.2}
