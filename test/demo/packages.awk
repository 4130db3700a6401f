# From Debian's list of packages to the columns of the table package, as COPY
# wants them.  Of several versions of a package, the first is taken.

function put() {
	if (name != "" && !seen[name]++)
		print name, version, size == "" ? "\\N" : size, "{" relations "}"
	name = version = size = relations = ""
}

BEGIN { OFS = "\t" }
END { put() }
/^$/ { put() }
/^Package: / { name = $2 }
/^Version: / { version = $2 }
/^Installed-Size: / { size = $2 }
/^(Depends|Recommends|Suggests|Breaks|Replaces): / {
	kind = $1
	sub(/:$/, "", kind)
	sub(/^[^:]*: */, "")
	gsub(/["\\\t]/, " ")
	relations = relations (relations == "" ? "" : ", ") "\"" kind "\": \"" $0 "\""
}
