"""The empirical side: builds really factored models, measures them, and says how wrong the predictions are.

Records, statistics, fitting and reports import without torch; whatever touches a device imports it on use.
"""
