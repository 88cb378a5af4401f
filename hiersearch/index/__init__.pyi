from .formats.collections import Collection as Collection
from .formats.entries import Entry as Entry
from .formats.entries import HierarchyEntry as HierarchyEntry
from .index import PartitionIndex as PartitionIndex
from .search.results import DuplicateGroup as DuplicateGroup
from .search.results import Neighbour as Neighbour
from .search.results import Pair as Pair
from .search.results import SearchResult as SearchResult
from .search.results import SearchWork as SearchWork
from .segments.repairing import Repair as Repair

__all__: list[str]
