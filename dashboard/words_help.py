"""What a control that several views have says of itself. Pure."""

RUN = "Which trained run is shown. Another one starts with equal attention and c = 1; its baselines come with it."
AXIS = (
    "Which objective is measured along this axis, as NDCG on the test lists: 0 to 1, the further along the arrow the "
    "better."
)
CUT = (
    "How many places at the top of a list count for NDCG. NDCG goes from 0 to 1, and higher is better: 1 is the best "
    "order that the labels allow."
)
DATA_PATH = (
    "A folder that `hyperdpo data convert` wrote, or a file it reads, with the lists of this run. "
    "It stays on this machine."
)
OPEN_DATA = "Read the data at this path and make the sliders live."
TRY_AGAIN = "Look for the data where the run says it is, once more."
DISMISS = "Put these sentences away; nothing else changes."
RUN_FOLDER = "The full path of a folder that `hyperdpo train` wrote. It is read, never changed."
