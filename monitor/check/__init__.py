"""Ids to outcomes: asks the API about a target's items, by its list or one by one, and hands outcomes on in batches."""

from monitor.check.inquiry import Inquirer, Inquiry
from monitor.check.items import Asker, ItemCheck
from monitor.check.report import CheckReport, Due, NoProgress, Progress
from monitor.check.strategy import ITEM_BY_ITEM, Approach, Strategy, Why

__all__ = [
    "ITEM_BY_ITEM",
    "Approach",
    "Asker",
    "CheckReport",
    "Due",
    "Inquirer",
    "Inquiry",
    "ItemCheck",
    "NoProgress",
    "Progress",
    "Strategy",
    "Why",
]
