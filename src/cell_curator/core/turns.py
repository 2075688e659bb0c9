"""Which way each image of a project is turned, where that does not follow from the image alone.

An angle that a person set holds for one image; one angle for a folder holds for all its images.
How an angle is found is in `orientation`; whether to turn at all is in the recipe.
"""

from __future__ import annotations

from pydantic import Field

from cell_curator.core.parameters import Parameters
from cell_curator.core.recipe import Recipe


class Turns(Parameters):
    """Counter-clockwise angles in degrees: set by hand by image id, shared by the path of the folder.

    ``found_for`` names the recipe's rotation and channel that the shared ones were found with.
    """

    by_hand: dict[int, float] = Field(default_factory=dict)
    shared: dict[str, float] = Field(default_factory=dict)
    found_for: str = ""

    def with_hand(self, image_id: int, angle_deg: float | None) -> Turns:
        """With another angle for one image; None leaves it to the recipe."""
        kept = {known: angle for known, angle in self.by_hand.items() if known != image_id}
        return self.model_copy(update={"by_hand": kept if angle_deg is None else kept | {image_id: angle_deg}})

    def angle(self, recipe: Recipe, image_id: int, folder: str) -> float | None:
        """The angle of an image that is not estimated from it, or None."""
        if not recipe.rotate.enabled:
            return None
        if image_id in self.by_hand:
            return self.by_hand[image_id]
        if recipe.rotate.votes and self.found_for == search_key(recipe):
            return self.shared.get(folder)
        return None

    def recipe(self, recipe: Recipe, image_id: int, folder: str) -> Recipe:
        """The recipe as it holds for one image."""
        angle = self.angle(recipe, image_id, folder)
        return recipe if angle is None else recipe.turned_by(angle)


def search_key(recipe: Recipe) -> str:
    """Changes with whatever the search for grooves depends on."""
    return f"{recipe.rotate.method} {recipe.channel.hash}"
