"""Settings of a fit, with what its images say by themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from statistics import median

from anogan.config import DEFAULT_CONFIG, Config, find_config, load_config
from anogan.errors import ImageError
from anogan.images.alike import Detail, detail_without_light, show_one_design
from anogan.images.decode import ImageInfo, probe, read_as_stored
from anogan.images.folders import scan_dataset
from anogan.images.resize import lost_below
from anogan.images.spread import evenly_spread
from anogan.images.synthetic_defects import two_levels

_PROBED = 16
_LOOKED_AT = 8
_BOARDS = "The images are binarised and show different designs"
_ONE_DESIGN = "The images show one design that lies alike in each, or can be laid so"
_OWN_SIZES = "The images are grey and most have a size of their own"
# By what was named; `edge` says which computer, not which product.
_FOR_BOARDS: Mapping[str | None, str] = {None: "pcb", "edge": "pcb-edge"}
_FOR_OWN_SIZES: Mapping[str | None, str] = {None: "magnetic-tile"}
_FOR_ONE_DESIGN: Mapping[str | None, str] = {None: "aligned"}
_SIZE_KEYS = ("images.size=", "images.on_mixed_sizes=")
_TILE_KEYS = ("images.size=", "images.on_mixed_sizes=keep", "tiles.")


def fitting_config(named: str | None, overrides: Sequence[str], data: Path) -> tuple[Config, str | None]:
    """The config for training, with channels and bit depth taken from the images unless it names them.

    Args:
        named: A YAML file or a shipped config's name; None for the shipped one that suits the images: `pcb`
            for binarised images of many designs, `magnetic-tile` for grey ones that have each its own size
            (unless `overrides` say what size they get), `aligned` for one design that lies alike in each
            or can be laid so (unless they say how images are cut), else `default`. For binarised ones `edge`
            means `pcb-edge`.
        overrides: `key.path=value` each.
        data: Folder with good images, or a data set with `good/`.

    Returns:
        The config, and what to tell when the images decided otherwise than the defaults.

    Raises:
        ConfigError: A file, key or value is wrong.
        DataError: The folder is missing, empty or of no known layout.
    """
    images = _FirstLook(data)
    taken, notes = _suited(named, overrides, images)
    config, more = _with_kind_of_images(find_config(taken), overrides, images)
    notes += more
    notes += _what_is_resized_away(config, images)
    return config, " ".join(notes) or None


class _FirstLook:
    """Some of the good images, from all over the folder; what cannot be read is left to `fit` to name."""

    def __init__(self, data: Path) -> None:
        good = scan_dataset(data).good
        self._paths = [good[place] for place in evenly_spread(len(good), _PROBED)]

    @cached_property
    def infos(self) -> list[ImageInfo]:
        found = []
        for path in self._paths:
            try:
                found.append(probe(path))
            except ImageError:
                continue
        return found

    @property
    def kind(self) -> tuple[int, int] | None:
        """(channels, bit depth) that most of them have; None when none can be read."""
        kinds = Counter((info.channels, info.bit_depth) for info in self.infos)
        return kinds.most_common(1)[0][0] if kinds else None

    @property
    def are_grey(self) -> bool:
        """Whether most of them have one channel."""
        return self.kind is not None and self.kind[0] == 1

    @property
    def have_own_sizes(self) -> bool:
        """Whether more than half of them are as large as no other."""
        sizes = Counter((info.height, info.width) for info in self.infos)
        return 2 * sum(count == 1 for count in sizes.values()) > max(2, len(self.infos))

    @property
    def are_binarised(self) -> bool:
        """Whether they have two levels each."""
        return len(self._looks) > 1 and all(binarised for binarised, _ in self._looks)

    @cached_property
    def show_one_design(self) -> bool:
        """Whether they show one design that lies alike in each, or can be laid so."""
        aspects = [info.width / info.height for info in self.infos]
        return show_one_design([detail for _, detail in self._looks], median(aspects) if aspects else 1.0)

    @cached_property
    def _looks(self) -> list[tuple[bool, Detail]]:
        """Of fewer of them, opened: whether each has two levels, and its detail."""
        found = []
        for place in evenly_spread(len(self._paths), _LOOKED_AT):
            try:
                image = read_as_stored(self._paths[place])
            except ImageError:
                continue
            found.append((two_levels([image]) is not None, detail_without_light(image)))
        return found


def _suited(named: str | None, overrides: Sequence[str], images: _FirstLook) -> tuple[str | None, list[str]]:
    """The name of the config to take, and what to tell of the choice."""
    if named not in (None, DEFAULT_CONFIG, *_FOR_BOARDS):
        return named, []
    if images.are_binarised and not images.show_one_design:
        what, better = _BOARDS, _FOR_BOARDS
    elif images.are_grey and images.have_own_sizes and not _settled(_SIZE_KEYS, overrides):
        what, better = _OWN_SIZES, _FOR_OWN_SIZES
    elif images.show_one_design and not _settled(_TILE_KEYS, overrides):
        what, better = _ONE_DESIGN, _FOR_ONE_DESIGN
    else:
        return named, []
    if named in better:
        return better[named], [f"{what}, so the settings are those of --config {better[named]}."]
    return named, [f"{what}; --config {better[None]} is made for these."]


def _settled(keys: tuple[str, ...], overrides: Sequence[str]) -> bool:
    return any(override.startswith(keys) for override in overrides)


def _with_kind_of_images(
    path: Path, overrides: Sequence[str], images: _FirstLook
) -> tuple[Config, list[str]]:
    config = load_config(path, overrides)
    open_keys = {"channels", "bit_depth"} - config.images.model_fields_set
    if not open_keys or images.kind is None:
        return config, []
    found = dict(zip(("channels", "bit_depth"), images.kind, strict=True))
    changed = {key: found[key] for key in sorted(open_keys) if found[key] != getattr(config.images, key)}
    if not changed:
        return config, []
    settings = [f"images.{key}={value}" for key, value in changed.items()]
    colour = "grey" if found["channels"] == 1 else "colour"
    note = f"The images are {found['bit_depth']}-bit {colour}, so {' and '.join(settings)}."
    return load_config(path, [*overrides, *settings]), [note]


def _what_is_resized_away(config: Config, images: _FirstLook) -> list[str]:
    size = config.images.size
    if size is None:
        return []
    widths = (lost_below((info.height, info.width), size) for info in images.infos)
    lost = [width for width in widths if width is not None]
    if 2 * len(lost) <= len(images.infos):  # One large photograph among others is no reason for advice.
        return []
    return [
        f"The images are seen at {size[1]} x {size[0]} pixels, where a defect narrower than {max(lost)} of "
        "theirs hardly shows: train on the part of the picture that matters, or take "
        f"--config {DEFAULT_CONFIG}, which sees every pixel but not where it lies."
    ]
