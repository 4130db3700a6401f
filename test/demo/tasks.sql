-- The demo's tables and tasks: ordinary SQL and plpgsql.
--
-- The input is Debian's list of packages: which ones there are, and what each
-- of them depends on, recommends and suggests.

CREATE TABLE package (
	name text PRIMARY KEY,
	version text NOT NULL,
	installed_kb bigint,
	relations jsonb NOT NULL,	-- {"Depends": "libc6 (>= 2.34), perl | perl-base", "Suggests": …}
	needed_by bigint			-- filled in by count_users()
);

CREATE TABLE relation (
	package text NOT NULL,
	kind text NOT NULL,
	other text NOT NULL,
	version text,				-- ">= 2.34", or NULL
	choice bigint NOT NULL		-- 2 and up: an alternative to the first
);

-- A function is an atomic task: what it has written and that it has succeeded
-- are committed together, or not at all.
CREATE FUNCTION parse_relations() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	p record;
	total bigint := (SELECT count(*) FROM package);
	done bigint := 0;
BEGIN
	DELETE FROM relation;
	FOR p IN SELECT name, relations FROM package LOOP
		INSERT INTO relation (package, kind, other, version, choice)
			SELECT p.name, f.key, substring(c.text FROM '^[^ (:]+'), substring(c.text FROM '\((.*)\)'), c.number
			FROM jsonb_each_text(p.relations) AS f,
				regexp_split_to_table(f.value, ',\s*') AS item,
				regexp_split_to_table(item, '\s*\|\s*') WITH ORDINALITY AS c (text, number)
			WHERE c.text <> '';
		done := done + 1;
		-- everybody sees this at once, though the transaction is still open
		IF done % 100 = 0 OR done = total THEN
			PERFORM gtf_update_progress(done, total);
		END IF;
	END LOOP;
	RETURN (SELECT count(*) FROM relation);
END $$;

-- What a function returns is the result of the task.
CREATE FUNCTION most_wanted(top int DEFAULT 10) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	IF NOT EXISTS (SELECT FROM relation) THEN
		RAISE EXCEPTION 'the relations are not there yet';
	END IF;
	RETURN (
		SELECT jsonb_agg(r) FROM (
			SELECT other AS package, count(DISTINCT package) AS needed_by
			FROM relation WHERE kind = 'Depends'
			GROUP BY other ORDER BY 2 DESC, 1 LIMIT top) r);
END $$;

-- Everything that comes along when a package is installed.
CREATE FUNCTION closure(package text) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
	found text[] := ARRAY[closure.package];
	level text[] := found;
BEGIN
	IF NOT EXISTS (SELECT FROM package p WHERE p.name = closure.package) THEN
		RAISE EXCEPTION 'there is no package "%"', closure.package;
	END IF;
	WHILE level IS NOT NULL LOOP
		level := (
			SELECT array_agg(DISTINCT r.other)
			FROM relation r JOIN package p ON p.name = r.other
			WHERE r.package = ANY (level) AND r.kind IN ('Depends', 'Recommends')
				AND r.choice = 1 AND r.other <> ALL (found));
		found := found || level;
		-- how many there will be is not known: a count alone
		PERFORM gtf_update_progress(cardinality(found));
	END LOOP;
	RETURN (
		SELECT jsonb_build_object('packages', count(*), 'size', pg_size_pretty(sum(p.installed_kb) * 1024))
		FROM package p WHERE p.name = ANY (found));
END $$;

-- A procedure may commit: what is done stays done, and no transaction is long.
CREATE PROCEDURE count_users(batch int DEFAULT 2000) LANGUAGE plpgsql AS $$
DECLARE
	total bigint := (SELECT count(*) FROM package);
	done bigint := 0;
	names text[];
BEGIN
	LOOP
		names := ARRAY(
			SELECT name FROM package WHERE name > coalesce(names[cardinality(names)], '')
			ORDER BY name LIMIT batch);
		EXIT WHEN cardinality(names) = 0;
		UPDATE package p SET needed_by = u.n
			FROM (
				SELECT x.name, count(r.other) AS n
				FROM unnest(names) AS x (name)
					LEFT JOIN relation r ON r.other = x.name AND r.kind = 'Depends'
				GROUP BY x.name) u
			WHERE p.name = u.name;
		COMMIT;
		done := done + cardinality(names);
		PERFORM gtf_update_progress(done, total);
	END LOOP;
END $$;

SELECT gtf_register_task('parse_relations', 'parse_relations()');
SELECT gtf_register_task('most_wanted', 'most_wanted(int)', max_attempts => 5, retry_delay => '6 s');
SELECT gtf_register_task('closure', 'closure(text)');
SELECT gtf_register_task('count_users', 'count_users(int)');
