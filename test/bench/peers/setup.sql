-- What the comparison with other queues needs, beyond setup.sql.

-- as bench.commit_now_and_then(n, true), for graphile-worker
CREATE TABLE bench.sends (a int, sent timestamptz NOT NULL, done timestamptz NOT NULL);
ALTER TABLE bench.sends OWNER TO bench;

CREATE PROCEDURE bench.add_job_now_and_then(n int)
LANGUAGE plpgsql AS $$
DECLARE
	sent timestamptz[];
	done timestamptz[];
BEGIN
	TRUNCATE bench.sends;
	COMMIT;
	FOR i IN 1..n LOOP
		PERFORM pg_sleep(0.005);
		PERFORM graphile_worker.add_job('noop', json_build_object('a', i));
		sent[i] := clock_timestamp();
		COMMIT;
		done[i] := clock_timestamp();
	END LOOP;
	INSERT INTO bench.sends SELECT i, sent[i], done[i] FROM generate_series(1, n) i;
END $$;
