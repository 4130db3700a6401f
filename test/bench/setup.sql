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

-- Submits n tasks, so many in each transaction.
CREATE PROCEDURE bench.submit(type text, n int, batch int)
LANGUAGE plpgsql AS $$
BEGIN
	FOR start IN 1..n BY batch LOOP
		PERFORM count(*) FROM gtf_submit_many(type, ARRAY(
			SELECT jsonb_build_object('a', i) FROM generate_series(start, least(start + batch - 1, n)) i));
		COMMIT;
	END LOOP;
END $$;

-- Commits n times, 5 ms apart, an INSERT or a submit, and notes the clock
-- immediately before and after each COMMIT.
CREATE TABLE bench.commits (id uuid, sent timestamptz NOT NULL, done timestamptz NOT NULL);

CREATE PROCEDURE bench.commit_now_and_then(n int, submit boolean)
LANGUAGE plpgsql AS $$
DECLARE
	ids uuid[];
	sent timestamptz[];
	done timestamptz[];
	id uuid;
BEGIN
	TRUNCATE bench.commits;
	COMMIT;
	FOR i IN 1..n LOOP
		PERFORM pg_sleep(0.005);
		IF submit THEN
			id := gtf_submit('noop', '{"a":1}');
		ELSE
			INSERT INTO bench.plain VALUES (gen_random_uuid(), now(), 10, 2, 0, 0, 'p', '', '{"a":1}');
		END IF;
		ids[i] := id;
		sent[i] := clock_timestamp();
		COMMIT;
		done[i] := clock_timestamp();
	END LOOP;
	INSERT INTO bench.commits SELECT * FROM unnest(ids, sent, done);
END $$;

RESET ROLE;

SELECT gtf_register_task('noop', 'bench.noop(jsonb)');
SELECT gtf_register_task('noop_sql', 'bench.noop_sql(jsonb)');
SELECT gtf_register_task('insert_one', 'bench.insert_one(jsonb)');
