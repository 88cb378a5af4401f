"""What a segment of an index holds, its arrays, and the partitions that they stand for."""
