"""Videos through networks, frame by frame; needs PyAV (FFmpeg's libraries)."""

from ptqsr.jobs.video.run import upscale_video

__all__ = ["upscale_video"]
