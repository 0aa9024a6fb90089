"""Page set-up and navigation only. Start it with `streamlit run dashboard/app.py`, from any folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# Streamlit puts only this file's folder on the path; the package may not be installed.
ROOT = str(Path(__file__).resolve().parents[1])
if ROOT not in sys.path:
    sys.path.insert(0, ROOT)

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: threads that spin as they wait slow each other

import streamlit as st

from dashboard.state import Key
from dashboard.views import compare, explore, runs, temperature, text, yours

st.set_page_config(page_title="HyperDPO Explorer", layout="wide", initial_sidebar_state="auto")
st.html(Path(__file__).with_name("style.css"))
pages = [
    st.Page(explore.render, title="Explore", url_path="explore", default=True),
    st.Page(text.render, title="Text", url_path="text"),
    st.Page(temperature.render, title="Temperature", url_path="temperature"),
    st.Page(compare.render, title="Compare", url_path="compare"),
    st.Page(runs.render, title="Runs", url_path="runs"),
    st.Page(yours.render, title="Your data", url_path="yours"),
]
# Opened directly, /runs logs two 404s in the browser: Streamlit's client first looks for its server below the page's
# own path. An app of two empty pages logs the same.
st.session_state[Key.PAGES] = {"explore": pages[0], "text": pages[1]}
st.navigation(pages, position="top").run()
