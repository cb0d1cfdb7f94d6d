"""Search for crystals of lower energy: new trials made of promising ones, raced, under a budget of evaluations."""
