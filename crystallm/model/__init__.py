"""The language model: built from a recipe, kept in a checkpoint folder that plain `transformers` loads."""
