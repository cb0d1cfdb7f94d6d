"""`crystallm model`: bring models of other projects, hand checkpoints on and fetch them."""

from crystallm.base.command_line import Group

COMMANDS = {
    "import": ("crystallm.model.import_published:import_command", "make a checkpoint of a published CrystaLLM model"),
    "push": ("crystallm.model.sharing:push_command", "copy a checkpoint to the hub or a folder, with a model card"),
    "pull": ("crystallm.model.sharing:pull_command", "fetch a checkpoint from the hub or a folder"),
}

main = Group("crystallm model", "Bring models of other projects, hand checkpoints on and fetch them.", COMMANDS)
