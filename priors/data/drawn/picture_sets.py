"""Made-up people as a dataset on disk: JPEG pictures and an npz in ProHMR's layout.

The pictures are crops, a little larger than a reader cuts out, so that training can shift them.
Everything in the npz is in the pixels of these files. `body_keypoints_2d` is what the made-up
detector reports, `extra_keypoints_2d` and all 3D keypoints are the truth, in metres in the camera's
frame. `focal`, `principal` and `transl` say where the camera was.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch

from flowfit.models.body import Body
from flowfit.models.cameras import Camera
from flowfit.models.errors import InputError
from flowfit.models.files import write_whole
from flowfit.models.keypoints import BODY25, PROHMR44
from flowfit.models.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from flowfit.priors.data.drawn.draw_people import Look, PeopleDrawer, Pictures
from flowfit.priors.data.people.augment import Augmentation
from flowfit.priors.data.people.mocap import Mocap
from flowfit.priors.data.people.synthetic import Detector, PeopleMaker, Scenery

DATASET = "people.npz"
_PARTS = "parts"
_TOGETHER = 16  # pictures drawn at once: more do not fit a core's cache
_SCALE_UNIT = 200  # pixels of a box for a `scale` of 1, as in ProHMR's files
_QUALITY = (35, 96)  # of the JPEGs


@dataclass(frozen=True)
class PictureSettings:
    """What decides a set of pictures.

    Attributes:
        count: pictures. size: pixels of a crop's side; the files are larger by `margin`.
        truncated: share of people whom the frame cuts. seed: of everything random.
    """

    count: int = 20000
    size: int = 128
    margin: float = 1.125
    truncated: float = 0.35
    seed: int = 0
    look: Look = field(default_factory=Look)
    detector: Detector = field(
        default_factory=lambda: Detector(
            outliers=0.03, cropped=0.1, wrong_but_sure=2, wrong_by=(0.05, 0.5), wrong_share=0.25
        )
    )
    augmentation: Augmentation = field(default_factory=Augmentation)
    plain_scenery: Scenery = field(
        default_factory=lambda: Scenery(box=(0.15, 1.0), off_centre=0.35, focal=(0.5, 3.0))
    )
    truncated_scenery: Scenery = field(
        default_factory=lambda: Scenery(box=(0.9, 2.6), off_centre=0.5, focal=(0.5, 3.0))
    )

    @property
    def file_size(self) -> int:
        """Pixels of a file's side."""
        return round(self.size * self.margin)


class PictureMaker:
    """Makes pictures of people, a few at a time.

    Args:
        body: whose keypoints are seen. drawn: whose mesh is drawn; a coarser one of the same shape
            space is enough for small pictures. mocap: where poses come from. settings: the rest.
    """

    def __init__(
        self,
        body: Body,
        drawn: Body,
        mocap: Mocap,
        settings: PictureSettings,
        device: torch.device | str = "cpu",
    ) -> None:
        self.body, self.settings = body.to(device=device), settings
        self.drawer = PeopleDrawer(
            drawn.to(device=device), settings.file_size,
            margin=settings.file_size / settings.size, look=settings.look,
        )  # fmt: skip
        poses = axis_angle_to_matrix(torch.from_numpy(mocap.poses).float()).to(device)
        weights = torch.from_numpy(mocap.balanced_weights()).float().to(device)
        self.makers = tuple(
            PeopleMaker(
                self.body, poses, weights, BODY25, settings.detector, scenery, settings.augmentation
            )
            for scenery in (settings.plain_scenery, settings.truncated_scenery)
        )

    def part(self, number: int, count: int = _TOGETHER) -> Pictures:
        """One batch; the same for the same settings and number. All plain, or all truncated."""
        generator = torch.Generator(self.body.device)
        generator.manual_seed((self.settings.seed * 1_000_003 + number) * 64 + 17)
        share = self.settings.truncated
        truncated = int((number + 1) * share) > int(number * share)  # spread evenly
        people = self.makers[int(truncated)].draw(count, generator)
        return self.drawer.draw(people, generator)


def make_picture_set(
    folder: Path, maker: PictureMaker, *, name: str = "", progress: bool = True
) -> Path:
    """Write the pictures and the npz; goes on where it was stopped. -> the npz.

    Args:
        folder: for `people.npz` and `pictures/`. name: of the body, told in `people.json`.

    Raises:
        InputError: the folder cannot be written, or holds pictures of other settings.
    """
    from tqdm import tqdm

    settings = maker.settings
    path, parts = folder / DATASET, folder / _PARTS
    told = json.dumps({"body": name, **asdict(settings)}, indent=1, sort_keys=True) + "\n"
    _check_settings(folder, told)
    if path.is_file():
        return path
    try:
        parts.mkdir(parents=True, exist_ok=True)
        (folder / "pictures").mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror or error}") from None
    write_whole(path.with_suffix(".json"), told.encode())
    numbers = range(-(-settings.count // _TOGETHER))
    files = [parts / f"{number:06d}.npz" for number in numbers]
    for number in tqdm(numbers, desc="pictures", unit_scale=_TOGETHER, disable=not progress):
        if files[number].is_file():
            continue
        count = min(_TOGETHER, settings.count - number * _TOGETHER)
        made = maker.part(number)
        names = [f"pictures/{number * _TOGETHER + i:06d}.jpg" for i in range(count)]
        _write_jpegs(folder, names, made, settings.seed * 1_000_003 + number)
        write_npz(files[number], dataset_arrays(made, maker.body, names, settings))
    _join(files, path)
    for file in files:
        file.unlink()
    parts.rmdir()
    return path


def _check_settings(folder: Path, told: str) -> None:
    beside = (folder / DATASET).with_suffix(".json")
    if beside.is_file() and beside.read_text() != told:
        raise InputError(f"{folder} holds pictures made with other settings; use another folder")


def _write_jpegs(folder: Path, names: Sequence[str], made: Pictures, seed: int) -> None:
    random = np.random.default_rng(seed)
    pixels = made.images.permute(0, 2, 3, 1).cpu().numpy()
    for name, picture in zip(names, pixels, strict=False):
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(*_QUALITY))]
        done, data = cv2.imencode(".jpg", picture[..., ::-1], quality)
        if not done:
            raise InputError(f"cannot encode {name} as JPEG")
        write_whole(folder / name, data.tobytes())


def dataset_arrays(
    made: Pictures, body: Body, names: Sequence[str], settings: PictureSettings
) -> dict[str, np.ndarray]:
    """The npz's arrays of the first `len(names)` people, in pixels of their files."""
    people, box, count = made.people, made.box, len(names)
    file_size = settings.file_size
    zoom = (file_size / box.side)[:, None]
    corner = box.center - box.side[:, None] / 2

    def zoomed(pixels: torch.Tensor) -> torch.Tensor:
        return (pixels - corner[:, None]) * zoom[:, None]

    camera = Camera(people.camera.focal * zoom, (people.camera.center - corner) * zoom)
    confidence = people.confidence[..., None]
    detected = torch.cat((torch.where(confidence > 0, zoomed(people.keypoints), 0), confidence), -1)
    points = body.keypoints(people.betas, people.rotations, PROHMR44, people.transl)
    known = ~points.isnan().any(-1, keepdim=True)
    pixels, in_front = camera.project(points.nan_to_num())
    inside = known & in_front[..., None]
    inside &= ((pixels >= 0) & (pixels < file_size)).all(-1, keepdim=True)
    true_2d = torch.cat((pixels, inside.to(pixels.dtype)), -1)
    true_3d = torch.cat((points.nan_to_num(), known.to(points.dtype)), -1)
    first = len(BODY25)
    middle = torch.full_like(box.center, file_size / 2)
    ones = torch.ones(len(box.side))
    arrays = {
        "center": middle,
        "scale": ones * (settings.size / _SCALE_UNIT),
        "body_pose": matrix_to_axis_angle(people.rotations).flatten(1),
        "has_body_pose": ones,
        "betas": people.betas,
        "has_betas": ones,
        "body_keypoints_2d": detected,
        "extra_keypoints_2d": true_2d[:, first:],
        "body_keypoints_3d": true_3d[:, :first],
        "extra_keypoints_3d": true_3d[:, first:],
        "focal": camera.focal,
        "principal": camera.center,
        "image_size": torch.full_like(box.center, file_size),
        "transl": people.transl,
    }
    found = {k: v[:count].cpu().numpy().astype(np.float32) for k, v in arrays.items()}
    return {"imgname": np.array(names), "gender": np.array(["n"] * count), **found}


def write_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """An npz, written whole or not at all."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    write_whole(path, buffer.getvalue())


def _join(files: Sequence[Path], path: Path) -> None:
    parts = []
    for file in files:
        with np.load(file, allow_pickle=False) as part:
            parts.append({key: part[key] for key in part.files})
    write_npz(path, {key: np.concatenate([p[key] for p in parts]) for key in parts[0]})
