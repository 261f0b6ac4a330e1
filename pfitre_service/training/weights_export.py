"""From a training's state to weights that load by name, with their card."""

from __future__ import annotations

from pathlib import Path

from pfitre_service.errors import SettingsError
from pfitre_service.prior.manifest import WeightsInfo, check_name, write_whole
from pfitre_service.prior.registry import PACKAGE_FOLDER, available, register, save
from pfitre_service.training.card import Facts, Machine, write_card
from pfitre_service.training.folder import Plan
from pfitre_service.training.loop import Trainer
from pfitre_service.training.validation import Validation


def export(trainer: Trainer, plan: Plan, validations: list[Validation], *, folder: Path, name: str) -> WeightsInfo:
    """Writes the running average as NAME.safetensors (float16) and its card as NAME.md, and registers them.

    Parameters
    ----------
    trainer
        Whose average it is.
    plan
        What the training was.
    validations
        Oldest first.
    folder
        Where the files are written.
    name
        Of the weights.

    Returns
    -------
    WeightsInfo
        The entry.

    Raises
    ------
    SettingsError
        The name or the folder cannot be had.
    InputError
        The weights are not finite.
    """
    facts = Facts(
        name=name,
        plan=plan,
        machine=Machine.from_device(trainer.device),
        parameters=sum(parameter.numel() for parameter in trainer.average.parameters()),
        updates=trainer.updates,
        samples=trainer.samples,
        seconds=trainer.seconds,
        validations=validations,
    )
    info = save(
        trainer.average.state_dict(),
        folder / f"{name}.safetensors",
        architecture=plan.recipe.architecture,
        recipe={**plan.as_json(), "updates_made": trainer.updates},
    )
    card = folder / f"{name}.md"
    write_whole(card, write_card(facts).encode())
    return register(info, folder, name, card=card)


def check_free(name: str, folder: Path) -> str:
    """The name, if weights can have it: asked before a training, not after its hours.

    Parameters
    ----------
    name
        Of the weights.
    folder
        Where they will lie.

    Returns
    -------
    str
        The name itself.

    Raises
    ------
    SettingsError
        The package has such weights itself, or the name has another form.
    """
    check_name(name)
    if folder.resolve() != PACKAGE_FOLDER.resolve() and any(
        info.name == name and info.source == "package" for info in available(folder)
    ):
        raise SettingsError(f"the package has weights named {name!r} itself; choose another name")
    return name
