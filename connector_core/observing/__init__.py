"""Observation of calls: records while they run, the log line when they end, the last ones kept and counts of five minutes.

Nothing is imported here: the log needs the records alone, and each module costs every start.
"""
