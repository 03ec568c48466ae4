"""What a finished run is told with: rows looked up again, numbers and words for people, markup, charts, exhibits.

The report (curate/report.py), the dataset card (curate/card.py) and explanations (curate/explain.py) are made of these.
"""
