"""Studies: a recipe's methods on its data sets, trained once, measured alike, told apart by paired statistics.

recipe.py    recipes/NAME.toml into frozen dataclasses; everything wrong is listed at once
sources.py   a recipe's data: the demo, simulations, files a person gives
units.py     what is trained and measured, keyed by everything that decides it
runner.py    units in processes of one thread each; resumes; progress and the time left
rows.py      figures of each row with intervals and paired tests
across.py    reports across cases: cost and hypervolume against m or the training lists, and what they say
report.py    the table as text, CSV and JSON, the figure, the resolved recipe
tuning.py    the six settings of each method and the file the chosen ones are kept in
study.py     all of it: `reproduce`
"""
