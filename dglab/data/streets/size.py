"""How large the embedded data set is drawn."""

from dataclasses import dataclass


@dataclass(frozen=True)
class StreetsSize:
    """How large the embedded data set is drawn: pixels, and images in each of the five domains."""

    height: int
    width: int
    train_images: int
    val_images: int

    def __str__(self) -> str:
        """What a run trains on, and the address of a run names: the validation images play no part in it."""
        return f"streets {self.height}x{self.width}, {self.train_images} training images a domain"
