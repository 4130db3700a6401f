-- What the measurements need in their database; run by a superuser.

CREATE EXTENSION gtf;
CREATE SCHEMA bench AUTHORIZATION bench;
GRANT SELECT ON gtf.tasks, gtf.outcomes TO bench;

SET ROLE bench;

CREATE FUNCTION bench.noop(args jsonb) RETURNS void
LANGUAGE plpgsql AS 'BEGIN END';

CREATE FUNCTION bench.noop_sql(args jsonb) RETURNS void
LANGUAGE sql AS '';

-- the effect of a task: one row
CREATE TABLE bench.effects (a int NOT NULL, at timestamptz NOT NULL DEFAULT now());

CREATE FUNCTION bench.insert_one(args jsonb) RETURNS void
LANGUAGE plpgsql AS 'BEGIN INSERT INTO bench.effects (a) VALUES ((args->>''a'')::int); END';

-- a row as wide as one of gtf.tasks, no index
CREATE TABLE bench.plain (
	id uuid NOT NULL,
	created_at timestamptz NOT NULL,
	owner oid NOT NULL,
	type_version int NOT NULL,
	priority int NOT NULL,
	home int NOT NULL,
	scope "char" NOT NULL,
	app_user text NOT NULL,
	args jsonb NOT NULL
);

RESET ROLE;

SELECT gtf_register_task('noop', 'bench.noop(jsonb)');
SELECT gtf_register_task('noop_sql', 'bench.noop_sql(jsonb)');
SELECT gtf_register_task('insert_one', 'bench.insert_one(jsonb)');
