"""A page that shows what quantization did to networks, and the same figures as pictures."""

from ptqsr.reporting.page import write_page
from ptqsr.reporting.pictures import Pictures, bundled_pictures, pictures_in
from ptqsr.reporting.report import Report, make_report, records
from ptqsr.reporting.subject import Subject, open_subject

__all__ = [
    "Pictures",
    "Report",
    "Subject",
    "bundled_pictures",
    "make_report",
    "open_subject",
    "pictures_in",
    "records",
    "write_page",
]
