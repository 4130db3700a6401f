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

-- The same, each with a key of its own.
CREATE PROCEDURE bench.submit_keyed(type text, n int, batch int)
LANGUAGE plpgsql AS $$
BEGIN
	FOR start IN 1..n BY batch LOOP
		PERFORM count(*) FROM gtf_submit_many(type,
			ARRAY(SELECT jsonb_build_object('a', i) FROM generate_series(start, least(start + batch - 1, n)) i),
			ARRAY(SELECT 'key ' || i FROM generate_series(start, least(start + batch - 1, n)) i));
		COMMIT;
	END LOOP;
END $$;

-- What a long history begins with: three tasks that are not due for long, and a
-- thousand each of a type that is rare later and of one that is shared.
CREATE PROCEDURE bench.join_oldest()
LANGUAGE sql AS $$
	SELECT count(*) FROM gtf_submit_many('together', array_fill('{"a":1}'::jsonb, ARRAY[1000]),
		ARRAY(SELECT 'key ' || i FROM generate_series(1, 1000) i));
$$;

CREATE PROCEDURE bench.submit_oldest()
LANGUAGE sql AS $$
	SELECT gtf_submit('noop', '{"a":1}', delay => '30 days') FROM generate_series(1, 3);
	SELECT count(*) FROM gtf_submit_many('insert_one', array_fill('{"a":1}'::jsonb, ARRAY[1000]));
	CALL bench.join_oldest();
$$;

-- A task 200 times in a second or so, until the session is ended.
CREATE PROCEDURE bench.go_on_submitting()
LANGUAGE plpgsql AS $$
BEGIN
	LOOP
		PERFORM gtf_submit('noop', '{"a":1}');
		COMMIT;
		PERFORM pg_sleep(0.005);
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

-- What a task does that is cancelled, and when it knew.
CREATE TABLE bench.stops (id uuid NOT NULL, at timestamptz NOT NULL);

CREATE FUNCTION bench.note_stop() RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
	at timestamptz := clock_timestamp();
BEGIN
	INSERT INTO bench.stops VALUES (gtf_task_id(), at);
END $$;

CREATE FUNCTION bench.sleeper() RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
	PERFORM gtf_on_abort('bench.note_stop()');
	PERFORM gtf_update_progress(1);
	PERFORM gtf_sleep('1 min');
END $$;

CREATE FUNCTION bench.short_statements() RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
	PERFORM gtf_on_abort('bench.note_stop()');
	PERFORM gtf_update_progress(1);
	FOR i IN 1..30000 LOOP
		PERFORM pg_sleep(0.001);
		EXIT WHEN EXISTS (SELECT FROM bench.stops WHERE id = gtf_task_id());
	END LOOP;
END $$;

CREATE FUNCTION bench.long_statement() RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
	PERFORM gtf_update_progress(1);
	PERFORM pg_sleep(60);
EXCEPTION WHEN query_canceled THEN
	PERFORM bench.note_stop();
END $$;

-- Starts and cancels a task n times, and notes the clock immediately before and
-- after the COMMIT that makes the cancel take effect.
CREATE PROCEDURE bench.cancel_now_and_then(type text, n int)
LANGUAGE plpgsql AS $$
DECLARE
	id uuid;
	sent timestamptz;
BEGIN
	TRUNCATE bench.commits, bench.stops;
	COMMIT;
	FOR i IN 1..n LOOP
		id := gtf_submit(type);
		COMMIT;
		WHILE NOT EXISTS (SELECT FROM gtf_get_task(id) WHERE progress_current = 1) LOOP
			PERFORM pg_sleep(0.001);
		END LOOP;
		PERFORM pg_sleep(0.005 + random() * 0.005);		-- the body sleeps by now
		PERFORM gtf_cancel(id);
		sent := clock_timestamp();
		COMMIT;
		INSERT INTO bench.commits VALUES (id, sent, clock_timestamp());
		COMMIT;
	END LOOP;
END $$;

-- The same without gtf, in two sessions.
CREATE PROCEDURE bench.be_cancelled(n int)
LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1..n LOOP
		BEGIN
			PERFORM pg_sleep(60);
		EXCEPTION WHEN query_canceled THEN
			INSERT INTO bench.stops VALUES (lpad(i::text, 32, '0')::uuid, clock_timestamp());
		END;
		COMMIT;
	END LOOP;
END $$;

CREATE PROCEDURE bench.cancel_backend_now_and_then(application text, n int)
LANGUAGE plpgsql AS $$
DECLARE
	session int;
	sent timestamptz;
BEGIN
	TRUNCATE bench.commits;
	COMMIT;
	FOR i IN 1..n LOOP
		LOOP
			COMMIT;				-- statistics are read once in a transaction
			SELECT pid INTO session FROM pg_stat_activity
			WHERE application_name = application AND wait_event = 'PgSleep'
				AND (SELECT count(*) FROM bench.stops) = i - 1;
			EXIT WHEN FOUND;
			PERFORM pg_sleep(0.001);
		END LOOP;
		PERFORM pg_sleep(0.005 + random() * 0.005);
		sent := clock_timestamp();
		PERFORM pg_cancel_backend(session);
		INSERT INTO bench.commits VALUES (lpad(i::text, 32, '0')::uuid, sent, clock_timestamp());
		COMMIT;
	END LOOP;
END $$;

-- Times reports beside calls of bench.empty, which is made below.
CREATE FUNCTION bench.reports_beside_empty(n bigint, rounds int) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
	result jsonb := '[]';
	go_on boolean;
	at timestamptz[];
BEGIN
	FOR round IN 1..rounds LOOP
		at[1] := clock_timestamp();
		FOR i IN 1..n LOOP
			go_on := bench.empty(i, n);
		END LOOP;
		at[2] := clock_timestamp();
		FOR i IN 1..n LOOP
			go_on := gtf_update_progress(i, n);
		END LOOP;
		at[3] := clock_timestamp();
		result := result || jsonb_build_array(jsonb_build_array(
			1e6 * extract(epoch FROM at[2] - at[1]) / n, 1e6 * extract(epoch FROM at[3] - at[2]) / n));
	END LOOP;
	RETURN result;
END $$;

-- One of the hundred tasks beside a drain.
CREATE FUNCTION bench.one_of_hundred(kind text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
	start timestamptz := clock_timestamp();
	pause interval := CASE kind WHEN 'asleep' THEN '1 hour' ELSE '10 ms' END;
	done bigint := 0;
	due bigint;
	go_on boolean;
BEGIN
	WHILE gtf_sleep(pause) LOOP
		due := CASE kind WHEN 'reporting' THEN 1000 ELSE 0 END * extract(epoch FROM clock_timestamp() - start);
		WHILE done < due LOOP
			done := done + 1;
			go_on := gtf_update_progress(done, 1000000000);
		END LOOP;
	END LOOP;
END $$;

CREATE TABLE bench.hundred (id uuid NOT NULL);

CREATE PROCEDURE bench.submit_hundred(kind text)
LANGUAGE sql AS $$
	TRUNCATE bench.hundred;
	INSERT INTO bench.hundred
		SELECT gtf_submit_many('one_of_hundred', array_fill(jsonb_build_object('kind', kind), ARRAY[100]));
$$;

CREATE FUNCTION bench.hundred_running() RETURNS boolean
LANGUAGE sql AS $$
	SELECT count(*) = 100 FROM bench.hundred h, gtf_get_task(h.id) WHERE status = 'in_progress'
$$;

-- Have they ended?
CREATE FUNCTION bench.cancel_hundred() RETURNS boolean
LANGUAGE sql AS $$
	SELECT gtf_cancel(ARRAY(SELECT id FROM bench.hundred));
	SELECT count(*) = 0 FROM bench.hundred h, gtf_get_task(h.id) WHERE ended_at IS NULL;
$$;

-- Tasks that are due later, the first one in so many seconds, then one every so
-- many milliseconds.
CREATE TABLE bench.waiting (n int PRIMARY KEY, id uuid NOT NULL);

CREATE PROCEDURE bench.submit_for_waiters(n int, start float8, gap float8)
LANGUAGE sql AS $$
	TRUNCATE bench.waiting;
	INSERT INTO bench.waiting
		SELECT i, gtf_submit('noop', '{"a":1}', delay => make_interval(secs => start + i * gap / 1000))
		FROM generate_series(0, n - 1) i;
$$;

CREATE FUNCTION bench.hundred_reports(OUT reports bigint, OUT clock float8)
LANGUAGE sql AS $$
	SELECT sum(progress_current), extract(epoch FROM clock_timestamp())
	FROM bench.hundred h, gtf_get_task(h.id)
$$;

RESET ROLE;

-- Roles that submit in turns, so many tasks in each transaction.
CREATE PROCEDURE bench.create_roles(n int)
LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1..n LOOP
		IF to_regrole('bench_' || i) IS NULL THEN
			EXECUTE format('CREATE ROLE %I LOGIN', 'bench_' || i);
			EXECUTE format('ALTER ROLE %I SET gtf.enabled = on', 'bench_' || i);
		END IF;
		EXECUTE format('GRANT USAGE ON SCHEMA bench TO %I', 'bench_' || i);
	END LOOP;
END $$;

CREATE PROCEDURE bench.submit_by(roles int, type text, n int, batch int)
LANGUAGE plpgsql AS $$
BEGIN
	FOR start IN 1..n BY batch LOOP
		EXECUTE format('SET LOCAL ROLE %I', 'bench_' || 1 + start / batch % roles);
		PERFORM count(*) FROM gtf_submit_many(type, ARRAY(
			SELECT jsonb_build_object('a', i) FROM generate_series(start, least(start + batch - 1, n)) i));
		COMMIT;
	END LOOP;
END $$;

-- How long a query takes: the first time, then so often, or for two seconds, the
-- median, in ms.
CREATE FUNCTION bench.page_ms(query text, times int, OUT first numeric, OUT again numeric)
LANGUAGE plpgsql AS $$
DECLARE
	start timestamptz := clock_timestamp();
	at timestamptz;
	ms float8[];
BEGIN
	FOR i IN 0..times LOOP
		EXIT WHEN i > 1 AND clock_timestamp() > start + '2 s'::interval;
		at := clock_timestamp();
		EXECUTE query;
		ms[i] := 1000 * extract(epoch FROM clock_timestamp() - at);
	END LOOP;
	first := round(ms[0]::numeric, 2);
	SELECT round(percentile_cont(0.5) WITHIN GROUP (ORDER BY m)::numeric, 2) INTO again FROM unnest(ms[1:]) m;
END $$;

-- Takes what gtf_update_progress takes, in C, and does next to nothing.
CREATE FUNCTION bench.empty(current bigint, total bigint, payload jsonb DEFAULT NULL) RETURNS boolean
LANGUAGE internal AS 'int8le';

SELECT gtf_register_task('noop', 'bench.noop(jsonb)');
SELECT gtf_register_task('noop_sql', 'bench.noop_sql(jsonb)');
SELECT gtf_register_task('insert_one', 'bench.insert_one(jsonb)');
SELECT gtf_register_task('sleeper', 'bench.sleeper()');
SELECT gtf_register_task('short_statements', 'bench.short_statements()');
SELECT gtf_register_task('long_statement', 'bench.long_statement()', abort => 'interrupt');
SELECT gtf_register_task('reports_beside_empty', 'bench.reports_beside_empty(bigint, int)');
SELECT gtf_register_task('together', 'bench.noop(jsonb)', scope => 'shared');
SELECT gtf_register_task('one_of_hundred', 'bench.one_of_hundred(text)', abort => 'poll');
