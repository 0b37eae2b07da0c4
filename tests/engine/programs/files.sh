# Files as shells and utilities use them. Run in an empty directory; everything it prints is the same on every file system.
umask 022
say() {
  echo "== $1"
  (eval "$1") 2>&1
  echo "-> $?"
}
look() { stat -c '%n %F %a %h %s %u %g' "$@"; }
say 'mkdir -p a/b/c; touch a/f1 a/b/f2; find a | sort'
say 'stat -c "%n %F %a %h" a a/b; look a/f1'
say 'mkdir a'; say 'rmdir a'; say 'rmdir a/b/c; ls a/b'; say 'rm a'; say 'cat a'; say 'cat nothing'; say 'cd nothing'
say 'ln a/f1 a/f1l; look a/f1'; say 'ln -s f1 a/l; readlink a/l; look a/l; look -L a/l'
say 'ln -s loop loop; cat loop'; say 'cat loop/x'; say 'ln a/b hl'; say 'ln nothing hl'
say 'mv a/f1 a/f2; ls a'; say 'mv a b; ls b'; say 'mv b b/b/x'; say 'mv -T b/f2 b/b'
say 'printf hello > x; cp x y; cmp x y; echo more >> x; cmp x y'
say 'wc -c x y'; say 'truncate -s 100000 x; look x; tail -c 5 x | od -c'; say 'truncate -s 3 x; cat x'
say 'dd if=/dev/zero of=z bs=1k count=3 seek=5 2>/dev/null; look z; cksum z'
say 'fallocate -l 20000 fa; look fa; fallocate -p -o 4096 -l 4096 fa; look fa; cksum fa'
say 'chmod 4755 x; look x; chmod u-s,g+s x; look x; chmod 000 x; cat x; chmod +x x; look x'
say 'chown 1000:1001 y; look y; chgrp 5 y; look y; chown 65534 y; look y'
say 'touch -d "2001-02-03 04:05:06.789" y; stat -c %y y; touch -r y z; stat -c %y z; touch -a -d @5 z; stat -c "%X %Y" z'
say 'mkfifo p; look p; (echo via > p &); cat p'; say 'mknod n c 1 3; look n; stat -c "%t %T" n'
say 'mkdir g; chmod 2775 g; chgrp 7 g; touch g/f; mkdir g/d; stat -c "%n %F %a %g" g/f g/d'
say 'umask 077; touch um; mkdir umd; stat -c "%n %a" um umd'
say 'echo 1 > e1; echo 2 > e2; exec 5<>e1; echo over >&5; cat e1; exec 5>&-; set -C; echo no > e1'
say 'exec 7>e3; echo a >&7; rm e3; echo b >&7; ls e3; cat /proc/self/fd/7'
say 'exec 8<e2; rm e2; cat <&8'
say 'ls -lA . | sed 1d | awk "{print \$1,\$2,\$9}" | sort'; say 'ls -d */; ls -R b; ls -Q'
say 'cp -r b c; diff -r b c; echo X > c/b/f2; diff -r b c; cp -al c d; look c/b/f2; cp --sparse=always z zz; cmp z zz; cp -p y yp; look yp'
say 'tar cf t.tar b c; mkdir o; tar xf t.tar -C o; diff -r b o/b; tar tf t.tar | sort; tar czf t.tgz b; tar xzf t.tgz -O b/b/f2'
say 'find . -type f -size +1 | sort; find . -perm -2000 | sort; find . -links +1 -type f | sort; find b -delete; ls b'
say 'touch -- -dash; ls -- -dash; rm -- -dash; touch "sp ace" "$(printf "\303\244\377")"; ls | od -c | tail -5; rm -f sp* $(printf "\303")*'
say 'touch $(head -c 255 /dev/zero | tr "\0" n); ls n* | wc -c; touch $(head -c 256 /dev/zero | tr "\0" m)'
say 'cat /dev/null; head -c 5 /dev/zero | od -c; echo x > /dev/full; ls -lL /dev/null | cut -c1-10'
say 'cd c; basename "$PWD"; cd ..; cd -P c/b/..; basename "$PWD"; mkdir dd; cd dd; rmdir ../dd; pwd -P; ls; touch x; cd ..'
say 'realpath --relative-to=. c/../c/./b; realpath -e nothing; readlink -f loop; mktemp -d tXXX > /dev/null && ls -d t?? | wc -l'
say 'sync; sync y; stat -f -c %l .; install -m 640 -D y i/n/s; look i/n/s; shred -u y; ls y; split -b 2 x; ls xa*; paste x x; tee t1 t2 < x; cmp t1 t2'
say 'cat /proc/self/comm; basename $(readlink /proc/self/exe); cat /proc/filesystems | grep -c tmpfs; test -d /proc/$$/task/$$'
say 'echo sub > f; cat < f > g2; cat <(echo one) <(echo two); cat /dev/stdin < f; cat <<< string; echo x > /dev/stderr'
