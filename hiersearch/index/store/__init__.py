"""The store: named arrays, ids and metadata in a folder, durably. It knows no partitions."""
