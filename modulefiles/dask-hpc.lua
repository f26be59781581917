-- For Lmod, as MODULEPATH/dask-hpc/VERSION.lua: a copy for each version, or a link.
-- docs/install.md says how an environment for it is made.  Only this line is the site's:
local root = "/opt/dask-hpc"

local version = myModuleVersion()
local prefix = pathJoin(root, version)

help([[
dask-hpc: Dask clusters through this machine's batch queue.
Start with: dask-hpc --help, and dask-hpc doctor.
Jobs use the same installation by themselves; they need not load this module.
]])
whatis("Name: dask-hpc")
whatis("Version: " .. version)
whatis("Description: secure Dask clusters through the batch queue")

conflict("dask-hpc")

if mode() == "load" and not isFile(pathJoin(prefix, "bin", "dask-hpc")) then
   LmodError("dask-hpc/" .. version .. " is not installed in " .. prefix)
end
-- Its python too: `import dask_hpc` and notebooks use what the commands use.  What is to be seen of
-- the site's configuration lies in prefix/etc/dask, which dask reads by itself.
prepend_path("PATH", pathJoin(prefix, "bin"))
