"""What only the lessons need: their set-up, sizes, tables, advice, exercises, two image sets."""
