-- The decision table of sql/abort.sql, for tasks in C.
\set ECHO none
\set c_library gtf_cases
\i ../../../sql/abort.sql
