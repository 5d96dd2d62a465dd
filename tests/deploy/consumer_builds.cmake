# Goal: the installed package is enough to build and run a program that uses Kvasir, found either way. Method: install
# into an empty prefix, build tests/deploy/consumer against it, run it. Arguments: -DBUILD= -DSOURCE= -DWORK=
function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT result EQUAL 0)
    list(JOIN ARGN " " line)
    message(FATAL_ERROR "${line}\nended with ${result}:\n${output}")
  endif()
  set(output "${output}" PARENT_SCOPE)
endfunction()

file(REMOVE_RECURSE ${WORK})
run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${WORK}/prefix)
file(GLOB_RECURSE configs ${WORK}/prefix/kvasir.pc)
get_filename_component(pkgconfig "${configs}" DIRECTORY)
set(ENV{PKG_CONFIG_PATH} ${pkgconfig})
foreach(by package pkgconfig)
  run(${CMAKE_COMMAND} -G Ninja -S ${SOURCE} -B ${WORK}/${by} -DKVASIR_BY=${by} -DCMAKE_PREFIX_PATH=${WORK}/prefix
      -DCMAKE_CXX_COMPILER_LAUNCHER=${LAUNCHER})
  run(${CMAKE_COMMAND} --build ${WORK}/${by})
  run(${WORK}/${by}/consumer)
  message("by ${by}: ${output}")
endforeach()
