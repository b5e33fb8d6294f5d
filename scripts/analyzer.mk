# What gcc -fanalyzer (make check-analyzer) must not say: of all files, and of one, by its path without .c. By gcc 12.

# It takes for lost what is kept in an element of an array that was just enlarged, in a list, or in the structure that a caller
# handed in: of some sixty one was right. LeakSanitizer watches every test.
ANALYZER_OFF = -Wno-analyzer-malloc-leak

# `a == NULL || b == NULL ? a == b : strcmp(a, b)`: it does not follow the condition.
ANALYZER_OFF_core/daemon = -Wno-analyzer-possible-null-argument
# The capacity is 0 as long as the pointer is NULL, and what is asked for is never 0.
ANALYZER_OFF_core/archive = -Wno-analyzer-null-dereference
# `if (v == NULL || fd < 0)` returns; behind it it goes on as if v could be NULL.
ANALYZER_OFF_core/watch_fanotify_mounts = -Wno-analyzer-possible-null-dereference
# A loop fills all fields, or the function returns.
ANALYZER_OFF_core/progress = -Wno-analyzer-use-of-uninitialized-value
# What a list's head points to is set through the element that leaves it (`*t->at = t->newer`): it takes the head for unchanged.
ANALYZER_OFF_transports/sftp_ops = -Wno-analyzer-use-after-free
