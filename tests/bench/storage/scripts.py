"""What the person does between two saves: the name of each step and the shell command typed for it."""

from __future__ import annotations

PROGRAM = (
    "printf '#include <stdio.h>\\nint main(void) { puts(\"hello\"); return 0; }\\n' > hello.c"
    " && gcc -O2 hello.c -o hello && ./hello"
)
PARTS = (
    "mkdir -p app && for n in 1 2 3 4 5 6; do"
    ' printf "#include <stdlib.h>\\nint part$n(int n) { return rand() %% (n + $n); }\\n" > app/part$n.c; done'
    " && gcc -c app/part*.c && mv part*.o app/"
)
RECORDS = (
    'python3 -c "import json, random; random.seed(1);'
    " json.dump([{'id': n, 'name': f'user {n}', 'score': random.random()} for n in range(8000)],"
    " open('records.json', 'w'), indent=1)\""
)
LOG = (
    'python3 -c "import random; random.seed(2);'
    " open('work.log', 'w').writelines(f'{n:06} host{n % 40} GET /{random.randrange(9**6)} 200\\n'"
    ' for n in range(60000))"'
)
DATABASE = (
    "python3 -c \"import sqlite3; db = sqlite3.connect('work.db');"
    " db.execute('create table t (id integer primary key, body text)');"
    " db.executemany('insert into t values (?, ?)', ((n, f'row {n} ' * 9) for n in range(8000)));"
    ' db.commit()"'
)
UPDATE = (
    "python3 -c \"import sqlite3; db = sqlite3.connect('work.db');"
    " db.execute('update t set body = upper(body) where id % 50 = 0'); db.commit()\""
)
VACUUM = (
    "python3 -c \"import sqlite3; db = sqlite3.connect('work.db');"
    " db.execute('delete from t where id % 3 = 0'); db.commit(); db.execute('vacuum')\""
)

STEPS = (
    ("compile a first program", PROGRAM),
    ("change it and compile again", PROGRAM.replace('"hello"', '"hello again"') + "; sync"),
    ("do nothing", ""),
    ("write 0.6 MB of JSON with Python", f"{RECORDS}; sync"),
    ("write 4 MB of random bytes", "dd if=/dev/urandom of=noise bs=1M count=4; sync"),
    ("write a log of 2.5 MB", f"{LOG}; sync"),
    ("insert a line at the log's beginning", "sed -i '1i a line that shifts all others' work.log; sync"),
    ("compile six parts", f"{PARTS}; sync"),
    (
        "change a part and compile it",
        "sed -i 's/rand/random/' app/part3.c && gcc -c app/part3.c -o app/part3.o; sync",
    ),
    (
        "copy Python's json and asyncio",
        "mkdir -p lib && cp -r /usr/lib/python3.11/json /usr/lib/python3.11/asyncio lib/; sync",
    ),
    ("delete the random bytes", "rm noise; sync"),
    ("pack /etc into an archive", "tar cf etc.tar /etc 2>/dev/null; sync"),
    ("compress the log", "gzip -k work.log; sync"),
    ("make a database of 8000 rows", f"{DATABASE}; sync"),
    ("change every fiftieth row", f"{UPDATE}; sync"),
    ("delete a third and vacuum", f"{VACUUM}; sync"),
    ("append to the log", "seq 100000 110000 >> work.log; sync"),
    ("look for files", "find / -xdev -name '*.py' | wc -l; sync"),
    ("idle for ten seconds", "sleep 10"),
    ("clean up", "rm -rf app lib etc.tar work.log.gz records.json; sync"),
)
