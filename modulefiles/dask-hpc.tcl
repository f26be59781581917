#%Module1.0
## For Environment Modules, as MODULEPATH/dask-hpc/VERSION: a copy for each version, or a link.
## docs/install.md says how an environment for it is made.  Only this line is the site's:
set root /opt/dask-hpc

set version [file tail [module-info name]]
set prefix $root/$version

proc ModulesHelp { } {
    puts stderr "dask-hpc: Dask clusters through this machine's batch queue."
    puts stderr "Start with: dask-hpc --help, and dask-hpc doctor."
    puts stderr "Jobs use the same installation by themselves; they need not load this module."
}
module-whatis "dask-hpc $version: secure Dask clusters through the batch queue"

conflict dask-hpc

if { [module-info mode load] && ![file isfile $prefix/bin/dask-hpc] } {
    puts stderr "dask-hpc/$version is not installed in $prefix"
    break
}
# Its python too: `import dask_hpc` and notebooks use what the commands use.  What is to be seen of
# the site's configuration lies in $prefix/etc/dask, which dask reads by itself.
prepend-path PATH $prefix/bin
