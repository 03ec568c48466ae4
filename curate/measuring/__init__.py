"""What is counted in a text: the kernels behind ``quality.measure``, a module for each way to count.

``general``     words, lines and repetitions as Gopher and FineWeb define them and datatrove counts them, on any words.
``dclm``, ``dolma``, ``curator``   the same rules as three other tools count them, where that differs.
``grams``       the n-grams of words that those three share.
``unicode``     properties of code points that Python does not know, and the words of Unicode's annex 29.
``tables``      which counts make which column; ``rules``: which columns decide in which profile.
``fineweb2``    thresholds and stop words of FineWeb-2 by language.

Only ``quality`` comes in here.
"""
