-- The extension can be created and dropped again, under the version that the
-- control file names, and nothing is left behind.
CREATE EXTENSION gtf;
SELECT e.extversion = a.default_version AS current
  FROM pg_extension e JOIN pg_available_extensions a ON a.name = e.extname
 WHERE e.extname = 'gtf';
-- everything the script created belongs to the extension
SELECT count(*) AS stray_functions
  FROM pg_proc p
 WHERE p.proname LIKE 'gtf\_%'
   AND NOT EXISTS (SELECT FROM pg_depend d
                    WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid
                      AND d.deptype = 'e');
DROP EXTENSION gtf;
SELECT count(*) AS left_functions FROM pg_proc WHERE proname LIKE 'gtf\_%';
SELECT count(*) AS left_schemas FROM pg_namespace WHERE nspname = 'gtf';
