"""Jobs over many files: which, in what order, and going on after an interruption."""

from ptqsr.jobs.formats import VideoSettings, is_video, parts_of
from ptqsr.jobs.listing import Job, list_jobs
from ptqsr.jobs.manifest import Manifest
from ptqsr.jobs.overlap import overlapped
from ptqsr.jobs.run import Outcome, Settings, Watch, upscale_files

__all__ = [
    "Job",
    "Manifest",
    "Outcome",
    "Settings",
    "VideoSettings",
    "Watch",
    "is_video",
    "list_jobs",
    "overlapped",
    "parts_of",
    "upscale_files",
]
