"""The command ``hiersearch index`` and its subcommands."""
