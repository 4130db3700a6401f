-- The decision table of sql/abort.sql, for tasks in C.
-- not under valgrind: there sql/abort.sql is enough
\set ECHO none
\set c_library gtf_cases
\i ../../../sql/abort.sql
